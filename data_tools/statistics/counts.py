"""What is counted over the blocks of a split, in one pass, in memory that does not grow with the corpus."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.progress import Progress
from data_tools.samples.columns import I64, Samples
from data_tools.samples.masks import Masks
from data_tools.samples.pairs import NO_PAIR
from data_tools.samples.preparation import SPLITS
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader

KINDS = ("[MASK]", "random", "kept")
ORDERS = ("no pair", "B follows A", "B does not")
RATE_BINS = 100


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """Counts of one split. Lengths and positions are in tokens, special tokens included.

    Attributes:
        lengths: int64 [seq_length + 1], samples of each length.
        words: int64 [seq_length + 1], samples of each number of units to mask.
        sources: int64 [sources], tokens of each source.
        orders: int64 [3], samples by their order (ORDERS).
        maskable: int64 [seq_length], tokens at each position that are not special.
        masked: int64 [copies, seq_length], of them, those that are masked.
        kinds: int64 [copies, 3], masked tokens by what stands there (KINDS); a random stand-in that happens to be the
            token itself counts as kept.
        units: int64 [seq_length + 1], masked units of each length; of every copy, as the next two.
        runs: int64 [seq_length + 1], stretches of neighbouring masked tokens of each length.
        rates: int64 [RATE_BINS + 1], masked copies of samples by their masked share, rounded to a bin.
        unigram: int64 [vocabulary], how often each id occurs as text.
    """

    lengths: I64
    words: I64
    sources: I64
    orders: I64
    maskable: I64
    masked: I64
    kinds: I64
    units: I64
    runs: I64
    rates: I64
    unigram: I64

    @classmethod
    def none(cls, seq_length: int, copies: int, sources: int, unigram: I64) -> SplitCounts:
        """Counts of no sample."""
        by_length = (np.zeros(seq_length + 1, np.int64) for _ in range(4))
        lengths, words, units, runs = by_length
        return cls(
            lengths=lengths,
            words=words,
            sources=np.zeros(sources, np.int64),
            orders=np.zeros(3, np.int64),
            maskable=np.zeros(seq_length, np.int64),
            masked=np.zeros((copies, seq_length), np.int64),
            kinds=np.zeros((copies, len(KINDS)), np.int64),
            units=units,
            runs=runs,
            rates=np.zeros(RATE_BINS + 1, np.int64),
            unigram=unigram,
        )

    def add_samples(self, samples: Samples) -> None:
        """Count the samples of a block."""
        layout = _Layout.of(samples)
        _tally(self.lengths, samples.lengths)
        _tally(self.words, np.add.reduceat(samples.words, layout.begins, dtype=np.int64) - layout.specials)
        _tally(self.sources, np.repeat(samples.sources, samples.lengths))
        _tally(self.orders, samples.order.astype(np.int64) - NO_PAIR)
        _tally(self.maskable, layout.position[layout.maskable])

    def add_masks(self, samples: Samples, masks: Masks, copy: int, mask_id: int) -> None:
        """Count one masked copy of a block."""
        layout = _Layout.of(samples)
        owner = np.repeat(np.arange(len(samples)), masks.counts)
        token = layout.begins[owner] + masks.positions
        _tally(self.masked[copy], masks.positions)
        kept = masks.inputs == samples.ids[token]
        _tally(self.kinds[copy], np.where(masks.inputs == mask_id, 0, np.where(kept, 2, 1)))
        begins_run = np.diff(token, prepend=-2) != 1
        _tally(self.runs, _gaps(begins_run))
        _tally(self.units, _gaps(begins_run | samples.words[token]))
        share = masks.counts / np.maximum(samples.lengths - layout.specials, 1)
        _tally(self.rates, np.floor(RATE_BINS * share + 0.5).astype(np.int64))


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where the samples of a block begin, each token's position in its sample, and which tokens are not special."""

    begins: I64
    specials: I64
    position: I64
    maskable: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, samples: Samples) -> _Layout:
        begins = np.cumsum(samples.lengths) - samples.lengths
        position = np.arange(len(samples.ids)) - np.repeat(begins, samples.lengths)
        maskable = np.ones(len(samples.ids), bool)
        for special in (begins, begins + samples.first + 1, begins + samples.lengths - 1):
            maskable[special] = False
        return cls(begins, 2 + (samples.order != NO_PAIR), position, maskable)


def counted(folder: Path, manifest: Manifest, mask_id: int) -> dict[str, SplitCounts]:
    """The counts of every split of a folder, block after block."""
    return {split: _of_split(folder, manifest, split, mask_id) for split in SPLITS}


def _of_split(folder: Path, manifest: Manifest, split: str, mask_id: int) -> SplitCounts:
    entry = manifest.splits[split]
    copies = len(entry.masked)
    unigram = np.load(folder / f"{split}.unigram.npy", allow_pickle=False)
    counts = SplitCounts.none(manifest.config["pairs"]["seq_length"], copies, len(manifest.sources), unigram)
    with Progress(f"counting {split}", "samples", entry.samples) as progress:
        for shard in entry.shards:
            reader = ShardReader(folder, shard)
            for block, size in enumerate(shard.samples):
                for copy in range(copies):
                    data = reader.read(block, copy)
                    if not copy:
                        counts.add_samples(data.samples)
                    counts.add_masks(data.samples, data.masks, copy, mask_id)
                progress.advance(size)
    return counts


def _tally(counts: I64, values: I64) -> None:
    counts += np.bincount(values, minlength=len(counts))


def _gaps(begins: npt.NDArray[np.bool_]) -> I64:
    """The lengths of stretches, by where they begin."""
    return np.diff(np.flatnonzero(begins), append=len(begins))
