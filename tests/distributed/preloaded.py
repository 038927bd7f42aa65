"""Everything that a rank would spend seconds on importing, for a server to fork ranks from."""

from __future__ import annotations

import os

os.environ.update({"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})

import deepspeed.runtime.bf16_optimizer
import deepspeed.runtime.zero.muon.muon_optimizer
import deepspeed.runtime.zero.stage3
import deepspeed.runtime.zero.stage_1_and_2  # noqa: F401

import launcher.distill
import launcher.pretrain
import launcher.teach  # noqa: F401
