"""Samples as training reads them: columns of many samples end to end, in the types they are stored in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from data_tools.shards.blocks import column
from data_tools.shards.keys import U64, sample_keys

I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]
Ids = npt.NDArray[np.unsignedinteger]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Samples with one masked copy of them.

    Attributes:
        ids: uint16 or uint32 [tokens].
        lengths: uint16 [samples], tokens of each.
        first: uint16 [samples], tokens of segment A.
        order: int8 [samples], 0 as in the document, 1 swapped, -1 for no pair.
        keys: uint64 [samples], by which a ledger knows them.
        positions: uint16 [masked], places in their sample.
        inputs: uint16 or uint32 [masked], the ids that stand there instead.
        counts: uint16 [samples], masked tokens of each.
        soft: what is kept of the masked tokens beside the shards, each [masked, ...], by name; or nothing.
    """

    ids: Ids
    lengths: U16
    first: U16
    order: npt.NDArray[np.int8]
    keys: U64
    positions: U16
    inputs: Ids
    counts: U16
    soft: Mapping[str, npt.NDArray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, members: Mapping[str, memoryview], copy: int) -> Columns:
        """The columns of a block's files, most of them views. Raises ValueError where one is missing."""
        return cls(
            ids=column(members, "ids"),
            lengths=column(members, "lengths"),
            first=column(members, "first"),
            order=column(members, "order"),
            keys=sample_keys(column(members, "document"), column(members, "number")),
            positions=column(members, f"positions.{copy}"),
            inputs=column(members, f"inputs.{copy}"),
            counts=column(members, f"counts.{copy}"),
        )

    @functools.cached_property
    def begins(self) -> I64:
        """Where the tokens of each sample begin: int64 [samples]."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    @functools.cached_property
    def masks_begin(self) -> I64:
        """Where the masked tokens of each sample begin: int64 [samples]."""
        return np.cumsum(self.counts, dtype=np.int64) - self.counts

    def take(self, rows: I64) -> Columns:
        """The samples at the rows, in that order."""
        lengths, counts = self.lengths[rows], self.counts[rows]
        tokens, masked = ranges(self.begins[rows], lengths), ranges(self.masks_begin[rows], counts)
        return Columns(
            self.ids[tokens], lengths, self.first[rows], self.order[rows], self.keys[rows],
            self.positions[masked], self.inputs[masked], counts,
            {name: rows[masked] for name, rows in self.soft.items()},
        )  # fmt: skip


_NAMES = tuple(field.name for field in dataclasses.fields(Columns) if field.name != "soft")


def join(parts: Sequence[Columns]) -> Columns:
    """Samples end to end. At least one part."""
    soft = {name: np.concatenate([part.soft[name] for part in parts]) for name in parts[0].soft}
    return Columns(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES}, soft=soft)


def ranges(begins: I64, lengths: U16 | I64) -> I64:
    """The integers of [begin, begin + length) for each pair, end to end: int64 [sum of lengths]."""
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.repeat(begins - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
