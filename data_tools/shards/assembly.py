"""Gathered samples become a tar of masked blocks."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import Samples
from data_tools.samples.masks import MaskConfig, mask
from data_tools.samples.pairs import NO_PAIR
from data_tools.shards import blocks, tar
from data_tools.shards.keys import sample_keys
from data_tools.shards.manifest import Shard
from data_tools.text.interface import Vocabulary


@dataclasses.dataclass(frozen=True)
class ShardConfig:
    """How samples lie in files.

    Attributes:
        samples_per_shard: samples of a tar, about; every tar of a split gets the same share of the corpus.
        samples_per_block: samples that are read together.
        heldout_share: share of the documents kept from training, by document.
    """

    samples_per_shard: int = 65536
    samples_per_block: int = 256
    heldout_share: float = 0.02

    def __post_init__(self) -> None:
        problems = []
        if self.samples_per_block < 1:
            problems.append(f"samples_per_block {self.samples_per_block} is not positive")
        if self.samples_per_shard < self.samples_per_block:
            problems.append(
                f"samples_per_shard {self.samples_per_shard} is less than a block's {self.samples_per_block}"
            )
        if not 0 < self.heldout_share < 1:
            problems.append(f"heldout_share {self.heldout_share} is not within 0 and 1")
        if problems:
            raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Assembled:
    """A written shard, with what the split's index needs of it.

    Attributes:
        shard: its manifest entry.
        lengths: uint16 [samples].
        counts: uint16 [copies, samples], masked tokens.
        paired: bool [samples], whether there is a segment B.
        keys: uint64 [samples], by which a ledger knows them.
        unigram: int64 [vocabulary], how often each id occurs as text.
    """

    shard: Shard
    lengths: npt.NDArray[np.uint16]
    counts: npt.NDArray[np.uint16]
    paired: npt.NDArray[np.bool_]
    keys: npt.NDArray[np.uint64]
    unigram: npt.NDArray[np.int64]


def assemble(
    path: Path,
    samples: Samples,
    number: int,
    masks: MaskConfig,
    config: ShardConfig,
    vocabulary: Vocabulary,
    seed: int,
) -> Assembled:
    """Mask the samples and write them, in their order, as blocks of a tar."""
    begins = range(0, len(samples), config.samples_per_block)
    counts: list[npt.NDArray] = []
    checksums: list[int] = []
    with tar.written(path) as writer:
        for block, begin in enumerate(begins):
            part = samples.take(np.arange(begin, min(begin + config.samples_per_block, len(samples))))
            copies = [mask(part, masks, vocabulary, seed, copy) for copy in range(masks.copies)]
            writer.write(f"{number:05d}-{block:05d}", blocks.encode(part, copies, vocabulary.size))
            counts.append(np.stack([copy.counts for copy in copies]))
        offsets = [*writer.offsets, writer.end]
    with path.open("rb") as stream:
        for begin, end in itertools.pairwise(offsets):
            checksums.append(zlib.crc32(stream.read(end - begin)))
    unigram = np.bincount(samples.ids, minlength=vocabulary.size).astype(np.int64)
    unigram[[vocabulary.pad, vocabulary.cls, vocabulary.sep, vocabulary.mask]] = 0
    shard = Shard(
        name=path.name,
        bytes=path.stat().st_size,
        sha256=tar.sha256(path),
        tokens=int(samples.lengths.sum()),
        samples=[min(config.samples_per_block, len(samples) - begin) for begin in begins],
        offsets=offsets,
        checksums=checksums,
    )
    return Assembled(
        shard,
        samples.lengths.astype(np.uint16),
        np.concatenate(counts, axis=1).astype(np.uint16),
        samples.order != NO_PAIR,
        sample_keys(samples.documents, samples.numbers),
        unigram,
    )
