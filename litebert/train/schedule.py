"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves over a run.

    Attributes:
        warmup_steps: optimizer steps over which the rate climbs linearly to its peak.
        kind: what follows until the last step: a straight line down, half a cosine, or the peak rate
            throughout.
        final_ratio: share of the peak rate that linear and cosine end at.
    """

    warmup_steps: int = 0
    kind: Literal["linear", "cosine", "constant"] = "linear"
    final_ratio: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if self.warmup_steps < 0:
            problems.append(f"warmup_steps {self.warmup_steps} is negative")
        if not 0 <= self.final_ratio <= 1:
            problems.append(f"final_ratio {self.final_ratio} is not within 0 and 1")
        if problems:
            raise ValueError("; ".join(problems))


def lr_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the peak rate at a step, in [0, 1].

    The warm-up's last step and the step after it both run at the peak. The decay would reach ``final_ratio``
    one step after the last, so that no step is spent at a rate of zero.

    Args:
        config: the shape.
        step: 0-based optimizer step.
        steps: optimizer steps of the whole run.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.kind == "constant":
        return 1.0
    progress = (step - config.warmup_steps) / (steps - config.warmup_steps)
    left = 1 - progress if config.kind == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return config.final_ratio + (1 - config.final_ratio) * left
