"""One split of a folder of shards, opened: what the plan needs of it in memory, its blocks on demand."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.shards.blocks import Block, join
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.shards.tar import sha256


class Split:
    """A split of training data.

    Attributes:
        fingerprint: of the folder of shards.
        tokenizer_fingerprint: of its tokenizer.
        vocab_size: number of ids.
        seq_length: tokens of a sample, at most.
        pairs: what its pairs are for: ``sop``, ``nsp`` or ``none``.
        samples, tokens, documents: how many there are.
        copies: masked copies of each sample.
        block_samples: samples of each block, in the order of the manifest.
        lengths: uint16 [samples], in the order of the manifest.
        counts: uint16 [copies, samples], masked tokens.
        paired: bool [samples], whether there is a segment B.
        unigram: int64 [vocab_size], how often each id occurs as text.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Raises ValueError where there is no such split, or its index does not belong to it."""
        manifest = Manifest.load(folder)
        if name not in manifest.splits:
            raise ValueError(f"{folder}: no split {name!r}; there are {', '.join(manifest.splits)}")
        entry = manifest.splits[name]
        self.folder = Path(folder)
        self.fingerprint = manifest.fingerprint
        self.tokenizer_fingerprint = manifest.tokenizer
        self.vocab_size = manifest.vocab_size
        self.seq_length = int(manifest.config["pairs"]["seq_length"])
        self.pairs = str(manifest.config["pairs"]["objective"])
        self.samples, self.tokens, self.documents = entry.samples, entry.tokens, entry.documents
        self.copies = len(entry.masked)
        self.block_samples = [samples for shard in entry.shards for samples in shard.samples]
        for column, expected in entry.index.items():
            path = self.folder / f"{name}.{column}.npy"
            if not path.is_file() or sha256(path) != expected:
                raise ValueError(f"{path} is missing or not the manifest's; build the shards again")
        self.lengths, self.counts, self.paired, self.unigram = (
            np.load(self.folder / f"{name}.{column}.npy", mmap_mode="r", allow_pickle=False)
            for column in ("lengths", "counts", "paired", "unigram")
        )
        self._readers = [ShardReader(self.folder, shard) for shard in entry.shards]
        self._shard_ends = np.cumsum([len(shard.samples) for shard in entry.shards])

    def block(self, number: int, copy: int) -> Block:
        """A block, numbered as in the manifest. Raises ValueError that names it if it is damaged."""
        shard = int(np.searchsorted(self._shard_ends, number, side="right"))
        first = int(self._shard_ends[shard - 1]) if shard else 0
        return self._readers[shard].read(number - first, copy)

    def blocks(self, numbers: npt.ArrayLike, copy: int) -> Block:
        """Blocks end to end, as one."""
        return join([self.block(int(number), copy) for number in np.asarray(numbers)])

    @functools.cached_property
    def unigram_log_probabilities(self) -> npt.NDArray[np.float64]:
        """Log of each id's share of the text, with one added to every count: float64 [vocab_size]."""
        counts = self.unigram.astype(np.float64) + 1
        return np.log(counts / counts.sum())
