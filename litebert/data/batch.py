"""A step's samples as tensors, unpadded: T tokens of B samples end to end, M of them masked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from litebert.data.columns import Columns, ranges
from litebert.model.attention import Packing


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a step's losses are averaged over: its whole global batch, whoever holds it.

    Attributes:
        tokens, samples: all of them.
        masked: masked tokens.
        pairs: samples that have a segment B.
    """

    tokens: int
    samples: int
    masked: int
    pairs: int


@dataclasses.dataclass
class MicroBatch:
    """What a rank processes at once.

    Attributes:
        ids: int64 [T], as the model sees them, masked.
        token_types: int64 [T], 0 in ``[CLS] A [SEP]``, 1 in ``B [SEP]``.
        packing: where each sample lies.
        masked: int64 [M], places of the masked tokens among the T.
        labels: int64 [M], what stood there.
        order: int64 [B], 0 where B follows A in the document, 1 where they are swapped (SOP) or B is of another
            document (NSP), -1 for no pair.
        counts: of the step.
        soft: what a teacher says of the masked tokens, as its codec keeps it, each [M, ...], by column; None where that
            is not read with the data.
    """

    ids: torch.Tensor
    token_types: torch.Tensor
    packing: Packing
    masked: torch.Tensor
    labels: torch.Tensor
    order: torch.Tensor
    counts: Counts
    soft: dict[str, torch.Tensor] | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device, copied without waiting where the memory is pinned."""
        return self._mapped(
            lambda tensor: tensor.to(device, non_blocking=True), self.packing.to(device, non_blocking=True)
        )

    def pin_memory(self) -> MicroBatch:
        """The same in page-locked memory, from where copies to a GPU run beside its work."""
        return self._mapped(torch.Tensor.pin_memory, self.packing.pin_memory())

    def _mapped(self, function: Callable[[torch.Tensor], torch.Tensor], packing: Packing) -> MicroBatch:
        tensors = (function(getattr(self, name)) for name in ("ids", "token_types", "masked", "labels", "order"))
        ids, token_types, masked, labels, order = tensors
        soft = self.soft and {name: function(rows) for name, rows in self.soft.items()}
        return MicroBatch(ids, token_types, packing, masked, labels, order, self.counts, soft)


@dataclasses.dataclass
class Step:
    """One optimizer step of one rank.

    Attributes:
        number: of the step, from 0.
        micro_batches: this rank's, the same number on every rank.
        counts: of the global batch.
        digest: of the samples in this rank's micro-batches, as they were decoded; over the ranks they add up, modulo
            2**64, to the batch's.
        quarantined: int64, samples of the planned batch that are left out, the same on every rank.
    """

    number: int
    micro_batches: list[MicroBatch]
    counts: Counts
    digest: int
    quarantined: np.ndarray


def micro_batch(columns: Columns, rows: np.ndarray, counts: Counts) -> MicroBatch:
    """Samples with their masks applied, as tensors; by length, so that equally long ones are attended at once."""
    rows = rows[np.argsort(columns.lengths[rows], kind="stable")]
    lengths, masks = columns.lengths[rows], columns.counts[rows]
    packing = Packing.of(lengths)
    ids = columns.ids[packing.position_ids.numpy() + np.repeat(columns.begins[rows], lengths)].astype(np.int64)
    chosen = ranges(columns.masks_begin[rows], masks)
    masked = np.repeat(packing.first.numpy(), masks) + columns.positions[chosen]
    labels = ids[masked]
    ids[masked] = columns.inputs[chosen]
    of_type_0 = columns.first[rows] + np.int64(2)  # [CLS] A [SEP]
    types = np.repeat(np.arange(2 * len(rows)) % 2, np.stack([of_type_0, lengths - of_type_0], 1).ravel())
    return MicroBatch(
        ids=torch.from_numpy(ids),
        token_types=torch.from_numpy(types),
        packing=packing,
        masked=torch.from_numpy(masked),
        labels=torch.from_numpy(labels),
        order=torch.from_numpy(columns.order[rows].astype(np.int64)),
        counts=counts,
        soft={name: torch.from_numpy(values[chosen]) for name, values in columns.soft.items()} or None,
    )
