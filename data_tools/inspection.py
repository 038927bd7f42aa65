"""Samples of a folder of shards drawn at random, with what each of their tokens is."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data_tools.samples.columns import I64
from data_tools.samples.pairs import NO_PAIR
from data_tools.shards.keyed_rng import below, draws, key_of
from data_tools.shards.manifest import Manifest, SplitEntry
from data_tools.shards.reader import ShardReader


@dataclasses.dataclass(frozen=True)
class Token:
    """One token as it stands in the data.

    Attributes:
        id: of the text.
        begins_word: whether a unit to mask begins here.
        shown: the id that the model sees in its place; None where the token is not masked.
    """

    id: int
    begins_word: bool
    shown: int | None


@dataclasses.dataclass(frozen=True)
class Inspected:
    """One sample, taken apart.

    Attributes:
        shard: name of its file.
        block, row: where it is in the shard.
        document: key of its document.
        number: its place among the document's samples.
        source: what its document is from.
        order: 0 where A and B stand as in the document, 1 where they are swapped, -1 for no pair.
        segments: tokens of A and, of a pair, of B; no special tokens.
    """

    shard: str
    block: int
    row: int
    document: int
    number: int
    source: str
    order: int
    segments: tuple[tuple[Token, ...], ...]

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Those of all segments."""
        return tuple(itertools.chain.from_iterable(self.segments))


def inspected(
    folder: Path, split: str, number: int, seed: int, copy: int, sources: Sequence[str] = ()
) -> list[Inspected]:
    """Samples drawn from a split, all of them where it has no more than ``number``; their blocks alone are read.

    Args:
        sources: those to draw from, every one if none is named.

    Raises ValueError where there is no such split, copy or source.
    """
    manifest = Manifest.load(folder)
    if split not in manifest.splits:
        raise ValueError(f"{folder} has no split {split!r}, only {' and '.join(manifest.splits)}")
    entry = manifest.splits[split]
    if not 0 <= copy < len(entry.masked):
        raise ValueError(f"{folder} has no copy {copy} of its masks, only 0 to {len(entry.masked) - 1}")
    if number < 1:
        raise ValueError(f"--number {number} is not positive")
    if sources:
        candidates = _of_sources(folder / f"{split}.sources.npy", manifest, sources)
        samples = candidates[drawn(len(candidates), number, seed)]
    else:
        samples = drawn(entry.samples, number, seed)
    return [
        _taken_apart(ShardReader(folder, entry.shards[shard]), block, row, copy, manifest)
        for shard, block, row in _places(entry, samples)
    ]


def _of_sources(path: Path, manifest: Manifest, sources: Sequence[str]) -> I64:
    """The samples of some sources, numbered through the split."""
    if unknown := sorted(set(sources) - set(manifest.sources)):
        raise ValueError(f"no source {', '.join(unknown)}; there are {', '.join(manifest.sources)}")
    numbers = [manifest.sources.index(source) for source in sources]
    return np.flatnonzero(np.isin(np.load(path, mmap_mode="r", allow_pickle=False), numbers))


def drawn(count: int, number: int, seed: int) -> I64:
    """Different integers below ``count``, in random order: int64 [number, or count where that is less]."""
    number = size = min(number, count)
    while True:
        words, *_ = draws(key_of(seed, "inspect"), np.zeros(1, np.uint64), np.arange(size, dtype=np.uint32))
        found = below(words, count)
        _, first = np.unique(found, return_index=True)
        if len(first) >= number:
            return found[np.sort(first)[:number]]
        size *= 2


def _places(entry: SplitEntry, samples: I64) -> Iterator[tuple[int, int, int]]:
    """The shard, block and row of samples numbered through the split."""
    shards = [shard for shard, one in enumerate(entry.shards) for _ in one.samples]
    blocks = [block for one in entry.shards for block in range(len(one.samples))]
    ends = np.cumsum([size for one in entry.shards for size in one.samples])
    for sample in samples.tolist():
        at = int(np.searchsorted(ends, sample, side="right"))
        yield shards[at], blocks[at], sample - (int(ends[at - 1]) if at else 0)


def _taken_apart(reader: ShardReader, block: int, row: int, copy: int, manifest: Manifest) -> Inspected:
    one = reader.read(block, copy).take(np.array([row]))
    samples, masks = one.samples, one.masks
    shown = dict(zip(masks.positions.tolist(), masks.inputs.tolist(), strict=True))
    columns = enumerate(zip(samples.ids.tolist(), samples.words.tolist(), strict=True))
    tokens = tuple(Token(id, begins, shown.get(position)) for position, (id, begins) in columns)
    order, cut = int(samples.order[0]), 1 + int(samples.first[0])
    second = () if order == NO_PAIR else (tokens[cut + 1 : -1],)
    return Inspected(
        shard=reader.shard.name,
        block=block,
        row=row,
        document=int(samples.documents[0]),
        number=int(samples.numbers[0]),
        source=manifest.sources[samples.sources[0]],
        order=order,
        segments=(tokens[1:cut], *second),
    )
