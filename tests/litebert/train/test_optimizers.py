"""Which parameters decay."""

from __future__ import annotations

import pytest

from litebert.model.heads import PretrainingModel
from litebert.model.presets import PRESETS
from litebert.train.optimizers import OptimizerConfig, build_optimizer


def test_biases_and_norms_do_not_decay_and_all_else_does() -> None:
    model = PretrainingModel(PRESETS["albert-tiny"])
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model.parameters(), OptimizerConfig(weight_decay=0.3))
    decay = {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.keys() == set(names.values())
    for name, value in decay.items():
        assert value == (0.0 if "norm" in name or name.endswith("bias") else 0.3), name


def test_frozen_parameters_are_left_out() -> None:
    model = PretrainingModel(PRESETS["albert-tiny"])
    model.encoder.requires_grad_(False)
    trained = [
        p for group in build_optimizer(model.parameters(), OptimizerConfig()).param_groups for p in group["params"]
    ]
    assert len(trained) == sum(1 for p in model.parameters() if p.requires_grad) > 0


def test_all_problems_are_listed() -> None:
    with pytest.raises(ValueError, match=r"lr 0 .*; betas .*; eps -1 .*; weight_decay -1 .*; clip_norm -1"):
        OptimizerConfig(lr=0, betas=(1.0, 0.9), eps=-1, weight_decay=-1, clip_norm=-1)
