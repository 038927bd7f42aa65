"""The section ``distill`` of a recipe: what a student takes from its teacher, before training and while it trains."""

from __future__ import annotations

import dataclasses
from typing import Literal

LOSSES = ("ce", "cos", "sop", "hidden", "relation")


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """Losses against a teacher, beside those against labels, which are the section ``objective``; 0 leaves one out.

    Attributes:
        ce: weight of the cross-entropy with the teacher's probabilities of words, both at the temperature, times its
            square (Hinton et al. 2015, section 2).
        cos: weight of one minus the cosine between hidden states (Sanh et al. 2019, section 2).
        sop: weight of the cross-entropy with what the teacher's pair head says, at the temperature, times its square.
        hidden: weight of the mean squared difference of hidden states (Jiao et al. 2020, "TinyBERT", equation 8).
        relation: weight of the divergence of the last layer's attention and value relation (Wang et al. 2020,
            "MiniLM", equation 4), on all places, in as many heads as the student has.
        temperature: that logits are divided by in ce and sop.
        ce_at: the places that ce is on: masked, or all of a sample's.
        hidden_at: the places that cos and hidden are on.
        map: the layers that cos and hidden are on: the last of both, or all of the student's, each with the teacher's
            that ``layers`` names for it, of which the mean is taken.
        layers: of the teacher, from 1, one for each of the student's; none for layers evenly apart, the last among
            them: 2, 4, ..., 12 for 6 of 12.
        start: what the student begins as: a copy of those layers and of the embeddings and heads where the shapes are
            the same, or random.
        precision: that the teacher computes in, or its head, where its answers are stored or sent; auto as in
            ``train``.
        patience: seconds that a student waits for an answer that is sent, while there is nobody who can give it.
    """

    ce: float = 5.0
    cos: float = 1.0
    sop: float = 0.0
    hidden: float = 0.0
    relation: float = 0.0
    temperature: float = 2.0
    ce_at: Literal["masked", "all"] = "masked"
    hidden_at: Literal["masked", "all"] = "masked"
    map: Literal["last", "all"] = "last"
    layers: tuple[int, ...] = ()
    start: Literal["teacher", "random"] = "teacher"
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    patience: float = 600.0

    def __post_init__(self) -> None:
        problems = [f"{name} {getattr(self, name)} is negative" for name in LOSSES if getattr(self, name) < 0]
        for name in ("temperature", "patience"):
            if getattr(self, name) <= 0:
                problems.append(f"{name} {getattr(self, name)} is not positive")
        if self.layers and min(self.layers) < 1:
            problems.append(f"layers {list(self.layers)}: the teacher's layers are numbered from 1")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def weights(self) -> tuple[float, ...]:
        """Of all losses."""
        return tuple(getattr(self, name) for name in LOSSES)
