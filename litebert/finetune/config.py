"""How a model is fine-tuned on a task."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch

from litebert.plan.devices import computes_bf16

Precision = Literal["auto", "fp32", "bf16"]


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Settings, the same for whatever is compared.

    Attributes:
        epochs: through the training examples; 0 measures a model whose head has learnt nothing.
        batch: examples of a step.
        learning_rates: peaks to choose from, by the score on dev with the first seed; one, or a list.
        max_length: tokens of an example; 0 for 128, or 384 of a question with its passage.
        seeds: how many times, with another head, order and dropout each: seeds 1, 2, ...
        samples: of train that are used, drawn by a fixed key, the same for every seed; 0 for all.
        overlap: keep or drop examples of train whose text is in dev or test too.
        warmup: share of the steps in which the learning rate rises to its peak; it falls to 0 after that, linearly.
            Of small models a short one loses some seeds for good (docs/log.md, 2026-11-30).
        weight_decay: of AdamW.
        precision: fp32, bf16 with fp32 weights, or auto: bf16 where the device computes in it.
    """

    epochs: int = 3
    batch: int = 32
    learning_rates: float | tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    max_length: int = 0
    seeds: int = 3
    samples: int = 0
    overlap: Literal["keep", "drop"] = "keep"
    warmup: float = 0.3
    weight_decay: float = 0.01
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        rates = self.rates
        problems = [
            f"{name} {getattr(self, name)} must be {least} or more"
            for name, least in (("epochs", 0), ("batch", 1), ("seeds", 1), ("samples", 0), ("weight_decay", 0))
            if not getattr(self, name) >= least
        ]
        if not rates or not all(0 < rate < math.inf for rate in rates):
            problems.append(f"learning_rates {list(rates)} must be one or more positive numbers")
        if self.max_length and self.max_length < 16:
            problems.append(f"max_length {self.max_length} must be 16 or more, or 0 for that of the kind of task")
        if not 0 <= self.warmup < 1:
            problems.append(f"warmup {self.warmup} must be a share of 1, and not all of it")
        if self.overlap not in ("keep", "drop"):
            problems.append(f"overlap {self.overlap!r} must be keep or drop")
        if self.precision not in ("auto", "fp32", "bf16"):
            problems.append(f"precision {self.precision!r} must be auto, fp32 or bf16")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, also where there is one."""
        return (self.learning_rates,) if isinstance(self.learning_rates, float | int) else self.learning_rates

    @property
    def resolved(self) -> FinetuneConfig:
        """The same with a precision that is one, for this machine, and with a list of learning rates."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        usual: Precision = "bf16" if computes_bf16(device) else "fp32"
        precision = usual if self.precision == "auto" else self.precision
        return dataclasses.replace(self, learning_rates=self.rates, precision=precision)


@dataclasses.dataclass(frozen=True)
class TaskDistillConfig:
    """What a student takes from a fine-tuned teacher, beside the labels.

    Attributes:
        alpha: weight of the cross-entropy with the labels, where there are any; the rest is the teacher's.
        temperature: that both models' logits are divided by before they are compared.
        augment: copies of every text, labelled or not, that the teacher answers as well.
        mask: share of a copy's words that are masked.
        ngram: share of copies of which only 1 to 5 words are left, side by side; not where entities are tagged.
    """

    alpha: float = 0.5
    temperature: float = 2.0
    augment: int = 0
    mask: float = 0.1
    ngram: float = 0.25

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)} must be a share of 1"
            for name in ("alpha", "mask", "ngram")
            if not 0 <= getattr(self, name) <= 1
        ]
        if not 0 < self.temperature < math.inf:
            problems.append(f"temperature {self.temperature} must be a positive number")
        if self.augment < 0:
            problems.append(f"augment {self.augment} must be 0 or more")
        if self.augment and not (self.mask or self.ngram):
            problems.append(f"augment {self.augment} changes nothing where mask and ngram are 0")
        if problems:
            raise ValueError("; ".join(problems))
