"""Keys that were there before, found a range of keys at a time: memory does not grow with the corpus.

Each range goes through the parts in order and holds its different keys, 16 bytes each, about 4 million of them at most,
beside a batch of the parts: 300 MB at the peak. What is found is written as it is found, so a key that a hundred
million documents share takes no more memory than any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_tools.dedup.corpus import Corpus
from data_tools.shards.keyed_rng import U64

_RANGE_KEYS = 1 << 22
_BATCH_KEYS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Repeats:
    """A stage: which positions repeat the key of an earlier one. An item is a range of keys.

    Attributes:
        corpus: the documents, with their signatures.
        name: of the signature, and of the stage.
        evaluation: whether the stage "contamination" says what does not count as there.
    """

    corpus: Corpus
    name: Literal["exact", "near", "paragraphs"]
    evaluation: bool

    def items(self) -> list[str]:
        """Ranges enough for their keys to fit into memory, as "number-of-count"."""
        total = sum(self.corpus.signature(part, self.name).shape[1] for part in self.corpus.parts)
        count = max(1, -(-total // _RANGE_KEYS))
        return [f"{number:05d}-of-{count:05d}" for number in range(count)]

    def run(self, item: str, folder: Path) -> None:
        """Write the positions that repeat an earlier one, ascending, and beside each the first with its key."""
        number, count = map(int, item.split("-of-"))
        seen_keys = seen_first = np.zeros(0, np.uint64)
        with Pairs(folder) as pairs:
            for keys, positions in self._batches((number << 64) // count, ((number + 1) << 64) // count):
                order = np.argsort(keys, kind="stable")  # keeps the order of the input among equal keys
                keys, positions = keys[order], positions[order]
                begins = np.ones(len(keys), bool)
                begins[1:] = keys[1:] != keys[:-1]
                different, first = keys[begins], positions[begins]
                places = np.searchsorted(seen_keys, different)
                known = np.zeros(len(different), bool)
                inside = places < len(seen_keys)
                known[inside] = seen_keys[places[inside]] == different[inside]
                first[known] = seen_first[places[known]]
                seen_keys = np.insert(seen_keys, places[~known], different[~known])
                seen_first = np.insert(seen_first, places[~known], first[~known])
                of = first[np.cumsum(begins) - 1]
                repeated = positions != of
                pairs.write(positions[repeated], of[repeated])

    def _batches(self, low: int, high: int) -> Iterator[tuple[U64, U64]]:
        batch: list[tuple[U64, U64]] = []
        size = 0
        for part in self.corpus.parts:
            keys, rows = self.corpus.signature(part, self.name)
            begin = np.searchsorted(keys, np.uint64(low))
            end = len(keys) if high == 1 << 64 else np.searchsorted(keys, np.uint64(high))
            there = self._there(part, rows[begin:end])
            batch.append((keys[begin:end][there], self.corpus.positions(part, rows[begin:end][there])))
            size += len(batch[-1][0])
            if size >= _BATCH_KEYS or part == self.corpus.parts[-1]:
                yield np.concatenate([some for some, _ in batch]), np.concatenate([some for _, some in batch])
                batch, size = [], 0

    def _there(self, part: str, rows: U64) -> npt.NDArray[np.bool_]:
        """Which of the rows no earlier stage has taken out."""
        there = np.ones(len(rows), bool)
        if self.name == "paragraphs":
            counts = self.corpus.signature(part, "paragraph_counts")
            there &= np.repeat(self.corpus.array("survivors", part, "reasons") == 0, counts)[rows]
        if self.evaluation:
            there &= ~self.corpus.array("contamination", part, "cut" if self.name == "paragraphs" else "dropped")[rows]
        return there


class Pairs:
    """Pairs of positions on their way to a folder: what repeats, and the first that it repeats."""

    def __init__(self, folder: Path) -> None:
        self._files = [(folder / f"{name}.u64").open("wb") for name in ("repeated", "first")]

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def write(self, repeated: U64, first: U64) -> None:
        """Add pairs, all of later positions than those before."""
        order = np.argsort(repeated, kind="stable")
        for file, positions in zip(self._files, (repeated, first), strict=True):
            file.write(positions[order].tobytes())


def read_pairs(folder: Path) -> tuple[U64, U64]:
    """What ``Pairs`` wrote, mapped and not read: uint64 [pairs] twice, ascending in the first."""
    if not (folder / "repeated.u64").stat().st_size:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    return np.memmap(folder / "repeated.u64", np.uint64, "r"), np.memmap(folder / "first.u64", np.uint64, "r")


def repeats_of(corpus: Corpus, stage: str, part: str) -> tuple[npt.NDArray[np.int64], U64]:
    """The rows of a part that repeat earlier ones by any item of a stage, and the positions of the first ones."""
    rows, firsts = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for item in corpus.work.finished(stage):
        repeated, first = read_pairs(corpus.work.path(stage, item))
        found, where = corpus.rows(part, repeated)
        rows.append(found)
        firsts.append(first[where])
    return np.concatenate(rows), np.concatenate(firsts)
