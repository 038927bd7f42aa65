"""Gathered samples become a tar of masked blocks."""

from __future__ import annotations

import dataclasses
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
            problems.append(f"heldout_share {self.heldout_share} is not between 0 and 1, both excluded")
        if problems:
            raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Assembled:
    """A written shard, with what the split's index needs of it.

    Attributes:
        shard: its manifest entry.
        columns: by name, with a last axis [samples]: ``lengths`` uint16; ``counts`` uint16 [copies, samples], masked
            tokens; ``paired`` bool, whether there is a segment B; ``keys`` uint64, by which a ledger
            knows them; ``sources`` uint16.
    """

    shard: Shard
    columns: dict[str, npt.NDArray]


def assemble(
    path: Path,
    samples: Samples,
    number: int,
    masks: MaskConfig,
    config: ShardConfig,
    vocabulary: Vocabulary,
    seed: int,
    corpus: npt.NDArray[np.int64] | None = None,
) -> Assembled:
    """Mask the samples and write them, in their order, as blocks of a tar.

    Args:
        corpus: int64 [vocabulary], how often each id occurs as text in the whole training split (``unigram``);
            needed where ``masks.frequency_smoothing`` is.
    """
    # All at once: a block is too little work for the number of array operations that masking takes.
    copies = [mask(samples, masks, vocabulary, seed, copy, corpus) for copy in range(masks.copies)]
    parts = samples.blocks(config.samples_per_block)
    masked = zip(*(copy.blocks(config.samples_per_block) for copy in copies), strict=True)
    with tar.written(path) as writer:
        for block, (part, of_part) in enumerate(zip(parts, masked, strict=True)):
            writer.write(f"{number:05d}-{block:05d}", blocks.encode(part, of_part, vocabulary.size))
    shard = Shard(
        name=path.name,
        bytes=writer.bytes,
        sha256=writer.sha256,
        tokens=int(samples.lengths.sum()),
        samples=[len(part) for part in samples.blocks(config.samples_per_block)],
        offsets=writer.offsets,
        checksums=writer.checksums,
    )
    columns = {
        "lengths": samples.lengths.astype(np.uint16),
        "counts": np.stack([copy.counts for copy in copies]).astype(np.uint16),
        "paired": samples.order != NO_PAIR,
        "keys": sample_keys(samples.documents, samples.numbers),
        "sources": samples.sources,
    }
    return Assembled(shard, columns)


def unigram(ids: npt.NDArray[np.int32], vocabulary: Vocabulary) -> npt.NDArray[np.int64]:
    """How often each id occurs as text, special tokens not counted: int64 [vocabulary]."""
    counts = np.bincount(ids, minlength=vocabulary.size).astype(np.int64)
    counts[[vocabulary.pad, vocabulary.cls, vocabulary.sep, vocabulary.mask]] = 0
    return counts
