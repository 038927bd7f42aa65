"""What a model is trained to do: fill in masked tokens (MLM), tell the order of two segments (SOP)."""

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
        sop: sentence-order prediction (Lan et al. 2020).
    """

    mlm: float = 1.0
    sop: float = 1.0

    def __post_init__(self) -> None:
        if min(self.mlm, self.sop) < 0 or max(self.mlm, self.sop) == 0:
            raise ValueError(
                f"objective weights mlm {self.mlm}, sop {self.sop}: none may be negative, one must be positive"
            )


@dataclasses.dataclass
class Contribution:
    """What a micro-batch adds to its step's means: summed over micro-batches and ranks, they are the means.

    Attributes:
        loss: 0-d, with gradient: the weighted sum of the losses.
        values: 0-d, without gradient: the loss, each part of it, and accuracies, by name.
    """

    loss: torch.Tensor
    values: dict[str, torch.Tensor]


class PretrainingObjective(nn.Module):
    """MLM on masked tokens and SOP on pairs, each averaged over the global batch."""

    def __init__(self, model: PretrainingModel, config: ObjectiveConfig) -> None:
        """Raises ValueError where the model lacks a head that a loss needs."""
        super().__init__()
        if config.sop and model.pair is None:
            raise ValueError(
                "objective.sop needs a sentence-pair head: set model.pooler to true, or objective.sop to 0"
            )
        self.model = model
        self.weights = {"mlm": config.mlm, "sop": config.sop}

    def forward(self, batch: MicroBatch) -> Contribution:
        """The batch's contribution. Samples without a pair have no part in SOP."""
        _, mlm_logits, pair_logits = self.model(batch.ids, batch.token_types, batch.packing, batch.masked)
        masked, pairs = max(1, batch.counts.masked), max(1, batch.counts.pairs)
        # In fp32: a sum of thousands of terms in bf16 would lose the small ones.
        losses = {"mlm": F.cross_entropy(mlm_logits.float(), batch.labels, reduction="sum") / masked}
        accuracies = {"mlm_accuracy": (mlm_logits.argmax(-1) == batch.labels).sum() / masked}
        if pair_logits is not None:
            told = F.cross_entropy(pair_logits.float(), batch.order, ignore_index=-1, reduction="sum")
            losses["sop"] = told / pairs
            accuracies["sop_accuracy"] = (pair_logits.argmax(-1) == batch.order).sum() / pairs
        loss = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        values = {"loss": loss, **losses, **accuracies}
        return Contribution(loss, {name: value.detach().float() for name, value in values.items()})
