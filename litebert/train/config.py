"""The section ``train`` of a recipe: how long a run is, on what engine, and what it leaves behind."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long a run is, on what engine, and what it leaves behind.

    Attributes:
        steps: optimizer steps of the whole run.
        seed: of the initial weights and of dropout.
        precision: fp32; bf16 with fp32 master weights and gradient accumulation; or auto: bf16 where all devices
            have instructions for it, else fp32. A run goes on with what it began with.
        ds_config: DeepSpeed JSON with the ZeRO stage and other engine keys.
        recompute: activation checkpointing: keep only what enters each layer, and compute the rest again in the
            backward. The same losses in less memory and a third more time.
        log_every: steps between two lines of metrics, each the mean of the steps since the last.
        evaluate_every: steps between two evaluations on held-out documents, with a page of sentences filled in; the
            last step gets one as well; 0 for none.
        evaluate_samples: held-out samples that they are on, always the same; 0 for all.
        checkpoint_every: steps between two checkpoints; the last step always gets one.
        keep_last: how many of the newest checkpoints stay.
        keep_every: steps between checkpoints that stay for good, beside the newest; 0 keeps none so.
        max_hours: hours after which the run stops by itself with a checkpoint and exit code 85, to be started again:
            what a cluster grants, from the start of the process, the last checkpoint included; 0 for no limit.
        output_bias: what the bias of the masked-word head starts from: the log unigram probabilities of the
            training text, which saves learning them, or zero.
        positions: what the position embeddings start from: sinusoids, in which neighbours are alike, or noise.
    """

    steps: int = 1000
    seed: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    ds_config: str = "ds_configs/zero1.json"
    recompute: bool = False
    log_every: int = 10
    evaluate_every: int = 0
    evaluate_samples: int = 2048
    checkpoint_every: int = 100
    keep_last: int = 2
    keep_every: int = 0
    max_hours: float = 0.0
    output_bias: Literal["unigram", "zero"] = "unigram"
    positions: Literal["sinusoidal", "random"] = "sinusoidal"

    def __post_init__(self) -> None:
        counts = ("steps", "log_every", "checkpoint_every", "keep_last")
        problems = [f"{name} {getattr(self, name)} is not positive" for name in counts if getattr(self, name) < 1]
        limits = ("keep_every", "max_hours", "evaluate_every", "evaluate_samples")
        problems += [f"{name} {getattr(self, name)} is negative" for name in limits if getattr(self, name) < 0]
        if self.log_every > 0 and self.evaluate_every % self.log_every:
            problems.append(f"evaluate_every {self.evaluate_every} is no multiple of log_every {self.log_every}")
        if self.keep_every % self.checkpoint_every:
            problems.append(f"keep_every {self.keep_every} is no multiple of checkpoint_every {self.checkpoint_every}")
        if problems:
            raise ValueError("; ".join(problems))
