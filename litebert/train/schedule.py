"""The learning rate as a pure function of the step, or of the time, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves over a run.

    Attributes:
        warmup_steps: optimizer steps over which the rate climbs linearly to its peak.
        kind: what follows until the last step. linear: a straight line down. cosine: half a cosine down (Loshchilov &
            Hutter 2017). polynomial: a power of the share that is left. wsd: the peak rate, then a steep decay at the
            end, 1 - sqrt (Haegele et al. 2024), so that how long a run is need not be known until then.
            constant: the peak rate throughout.
        final_ratio: share of the peak rate that all but constant end at.
        power: of polynomial; ALBERT's is 1.
        decay_share: share of the run, without its warm-up, in which wsd decays.
        hours: if not 0, the time that the run may take: the decay goes by the share of it that is over, not by steps,
            the warm-up climbs until it meets the decay, and the run ends with it, or with train.steps if they end
            first. What counts is time in training, over all sessions; a session that is resumed from a checkpoint
            counts up to that. How fast the machine was then decides the rates, so that no second run repeats this one
            bit for bit; metrics.jsonl holds the rate and the time of each line, with train.log_every 1 those of each
            step.
    """

    warmup_steps: int = 0
    kind: Literal["linear", "cosine", "polynomial", "wsd", "constant"] = "linear"
    final_ratio: float = 0.0
    power: float = 1.0
    decay_share: float = 0.2
    hours: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if self.warmup_steps < 0:
            problems.append(f"warmup_steps {self.warmup_steps} is negative")
        if not 0 <= self.final_ratio <= 1:
            problems.append(f"final_ratio {self.final_ratio} is not within 0 and 1")
        if self.power <= 0:
            problems.append(f"power {self.power} is not positive")
        if not 0 < self.decay_share <= 1:
            problems.append(f"decay_share {self.decay_share} is not within 0 and 1")
        if self.hours < 0:
            problems.append(f"hours {self.hours} is negative")
        unused = {
            "final_ratio": self.kind == "constant" and self.final_ratio != 0.0,
            "power": self.kind != "polynomial" and self.power != 1.0,
            "decay_share": self.kind != "wsd" and self.decay_share != 0.2,
        }
        problems += [f"{key} has no effect where kind is {self.kind}: remove it" for key in unused if unused[key]]
        if problems:
            raise ValueError("; ".join(problems))


def lr_factor(config: ScheduleConfig, step: int, steps: int, seconds: float = 0.0) -> float:
    """The share of the peak rate at a step, in [0, 1].

    The warm-up's last step and the step after it both run at the peak, unless ``hours`` count. The decay would
    reach ``final_ratio`` one step after the last, so that no step is spent at a rate of zero.

    Args:
        config: the shape.
        step: 0-based optimizer step.
        steps: optimizer steps of the whole run.
        seconds: of training before the step, where ``hours`` count.
    """
    climb = (step + 1) / config.warmup_steps if step < config.warmup_steps else 1.0
    if config.hours:
        return min(climb, _decayed(config, min(seconds / (config.hours * 3600), 1.0)))
    if step < config.warmup_steps:
        return climb
    return _decayed(config, (step - config.warmup_steps) / (steps - config.warmup_steps))


def is_over(config: ScheduleConfig, done: int, steps: int, seconds: float) -> bool:
    """Whether a run that has done so many of its steps, in so many seconds of training, is at its end."""
    return done >= steps or 0 < config.hours * 3600 <= seconds


def _decayed(config: ScheduleConfig, progress: float) -> float:
    """The share of the peak rate at a share of the run after its warm-up, or of its time."""
    return config.final_ratio + (1 - config.final_ratio) * _left(config, progress)


def _left(config: ScheduleConfig, progress: float) -> float:
    """Of the way between the peak rate and the final one, at a share of the run after its warm-up."""
    match config.kind:
        case "linear":
            return 1 - progress
        case "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        case "polynomial":
            return (1 - progress) ** config.power
        case "wsd":
            return 1 - math.sqrt(max(0.0, 1 - (1 - progress) / config.decay_share))
        case "constant":
            return 1.0
