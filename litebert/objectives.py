"""What a model is trained to do: fill in masked tokens (MLM), and tell of two segments whether they stand in order
(SOP) or belong together (NSP)."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from litebert.data.batch import MicroBatch
from litebert.model.heads import PretrainingModel


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses; 0 leaves one out.

    Attributes:
        mlm: masked language modelling.
        sop: sentence-order prediction (Lan et al. 2020), on data built with pairs.objective sop.
        nsp: next-sentence prediction (Devlin et al. 2019), on data built with pairs.objective nsp.
    """

    mlm: float = 1.0
    sop: float = 1.0
    nsp: float = 0.0

    def __post_init__(self) -> None:
        weights = f"objective weights mlm {self.mlm}, sop {self.sop}, nsp {self.nsp}"
        if min(self.weights) < 0:
            raise ValueError(f"{weights}: none may be negative")
        if self.sop and self.nsp:
            raise ValueError(f"{weights}: pairs are of one kind or the other, set one of sop and nsp to 0")

    @property
    def weights(self) -> tuple[float, ...]:
        """All of them."""
        return self.mlm, self.sop, self.nsp

    @property
    def pairs(self) -> str | None:
        """What is told of pairs, ``sop`` or ``nsp``; None where nothing is."""
        return "sop" if self.sop else "nsp" if self.nsp else None


@dataclasses.dataclass
class Contribution:
    """What a micro-batch adds to its step's means: summed over micro-batches and ranks, they are the means.

    Attributes:
        loss: 0-d, with gradient: the weighted sum of the losses.
        values: 0-d, without gradient: the loss, each part of it, and accuracies, by name.
    """

    loss: torch.Tensor
    values: dict[str, torch.Tensor]


class Objective(nn.Module):
    """What an engine trains: its forward turns a micro-batch into a ``Contribution``.

    Attributes:
        model: what is learnt.
    """

    model: PretrainingModel


class PretrainingObjective(Objective):
    """MLM on masked tokens and SOP or NSP on pairs, each averaged over the global batch."""

    def __init__(self, model: PretrainingModel, config: ObjectiveConfig) -> None:
        """Raises ValueError where the model lacks a head that a loss needs."""
        super().__init__()
        if config.pairs and model.pair is None:
            raise ValueError(
                f"objective.{config.pairs} needs a sentence-pair head: set model.pooler to true, "
                f"or objective.{config.pairs} to 0"
            )
        self.model = model
        self.config = config

    def forward(self, batch: MicroBatch) -> Contribution:
        """The batch's contribution. Samples without a pair have no part in SOP or NSP."""
        scored = self.model(batch.ids, batch.token_types, batch.packing, batch.masked, batch.labels)
        pair_logits = scored.pair_logits_B2
        masked = max(1, batch.counts.masked)
        losses = {"mlm": scored.mlm_loss / masked}
        accuracies = {"mlm_accuracy": scored.mlm_right / masked}
        weighted = [self.config.mlm * losses["mlm"]]
        if pair_logits is not None:
            weight, told, right = told_pairs(pair_logits, batch, self.config)
            weighted.append(weight * told)
            if kind := self.config.pairs:
                losses[kind] = told
                accuracies[f"{kind}_accuracy"] = right
        loss = torch.stack(weighted).sum()
        values = {"loss": loss, **losses, **accuracies}
        return Contribution(loss, {name: value.detach().float() for name, value in values.items()})


def told_pairs(
    logits_B2: torch.Tensor, batch: MicroBatch, config: ObjectiveConfig
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """What a pair head makes of the labels: the weight of its loss, the loss, and how many are right; shares of means.

    The weight may be 0, and the loss counts all the same: the engine wants a gradient of every parameter.
    """
    pairs = max(1, batch.counts.pairs)
    # A sum of many terms in bf16 would lose the small ones.
    exact_B2 = logits_B2.to(torch.promote_types(logits_B2.dtype, torch.float32))
    loss = F.cross_entropy(exact_B2, batch.order, ignore_index=-1, reduction="sum") / pairs
    right = (logits_B2.argmax(-1) == batch.order).sum() / pairs
    return max(config.sop, config.nsp), loss, right
