"""Samples as columns: the same field of many samples end to end, so that numpy does the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
_RANGES = 4096  # whose indices stay in the processor's cache


def ranges(starts: npt.ArrayLike, lengths: npt.ArrayLike) -> I64:
    """The integers of [start, start + length) for each pair, end to end: int64 [sum of lengths]."""
    starts, lengths = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)


def take_ranges(values: npt.NDArray, starts: I64, lengths: I64) -> npt.NDArray:
    """The values at ``ranges(starts, lengths)``."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.empty(ends[-1], values.dtype)
    for begin in range(0, len(lengths), _RANGES):
        end = min(begin + _RANGES, len(lengths))
        index = ranges(starts[begin:end], lengths[begin:end])
        np.take(values, index, out=taken[ends[begin] : ends[end]], mode="clip")  # else through a buffer
    return taken


@dataclasses.dataclass(frozen=True)
class Samples:
    """Many samples ``[CLS] A [SEP] B [SEP]``, or ``[CLS] A [SEP]`` where there is no pair.

    Attributes:
        ids: int32 [tokens], special tokens included.
        words: bool [tokens], whether a unit to mask (a word) begins at the token; True at special tokens.
        lengths: int64 [samples], tokens of each.
        first: int64 [samples], tokens of segment A, special tokens not counted.
        order: int8 [samples], 0 where A and B stand as in the document, 1 where they are swapped, -1 for no pair.
        documents: uint64 [samples], key of the document.
        numbers: uint32 [samples], place among the document's samples.
        sources: uint16 [samples], number of the source.
    """

    ids: npt.NDArray[np.int32]
    words: npt.NDArray[np.bool_]
    lengths: I64
    first: I64
    order: npt.NDArray[np.int8]
    documents: npt.NDArray[np.uint64]
    numbers: npt.NDArray[np.uint32]
    sources: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, index: I64) -> Samples:
        """The samples at the indices, in that order."""
        ends = np.cumsum(self.lengths)
        lengths = self.lengths[index]
        starts = ends[index] - lengths
        return Samples(
            take_ranges(self.ids, starts, lengths), take_ranges(self.words, starts, lengths), lengths,
            self.first[index], self.order[index], self.documents[index], self.numbers[index], self.sources[index],
        )  # fmt: skip

    def blocks(self, size: int) -> Iterator[Samples]:
        """The samples in their order, ``size`` at a time, as views."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        for begin in range(0, len(self), size):
            part = slice(begin, begin + size)
            tokens = slice(ends[begin], ends[min(begin + size, len(self))])
            yield Samples(
                self.ids[tokens], self.words[tokens], self.lengths[part], self.first[part], self.order[part],
                self.documents[part], self.numbers[part], self.sources[part],
            )  # fmt: skip


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Samples one after the other. At least one part."""
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


COLUMNS = tuple(field.name for field in dataclasses.fields(Samples))
