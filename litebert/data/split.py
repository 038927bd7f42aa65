"""One split of a folder of shards, opened: what the plan needs of it in memory, its blocks on demand."""

from __future__ import annotations

import contextlib
import copy as copying
import dataclasses
import functools
import hashlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_tools.shards.blocks import Block
from data_tools.shards.cache import Cache, cache_folder
from data_tools.shards.folder import LocalFolder, RemoteFolder
from data_tools.shards.manifest import FILE, Manifest
from data_tools.shards.reader import ShardReader
from data_tools.text.huggingface import KINDS
from litebert.data.columns import Columns
from litebert.data.stopwatch import Stopwatch

_DEFAULT_CACHE_BYTES = 20 * 10**9


class Beside(Protocol):
    """What is kept of a split's masked tokens in a folder beside it.

    Attributes:
        remote: whether that is a URL.
    """

    remote: bool

    def rows(self, block: int, copy: int) -> dict[str, npt.NDArray]:
        """Of a block's masked copy, each [masked, ...], by name. Raises as ``Split.columns``."""

    def check(self, block: int, copy: int) -> None:
        """Raises DamagedBlock where they are not as they were written."""


def opened(location: str | Path, cache: Cache | None = None) -> LocalFolder | RemoteFolder:
    """A folder at a path or a URL, whose blocks are kept in the user's cache folder where no cache is given."""
    if "://" in str(location):
        return RemoteFolder(str(location), cache or Cache(cache_folder(), _DEFAULT_CACHE_BYTES))
    return LocalFolder(Path(location))


class Split:
    """A split of training data.

    Attributes:
        location: of the folder of shards, a path or a URL.
        remote: whether it, or what is read beside it, is a URL.
        fingerprint: of the folder of shards.
        content: of the samples alone; their order is drawn from it.
        tokenizer_fingerprint: of its tokenizer.
        vocab_size: number of ids.
        seq_length: tokens of a sample, at most.
        pairs: what its pairs are for: ``sop``, ``nsp`` or ``none``.
        sources: names, at the numbers that samples have.
        samples, tokens, documents: how many there are.
        copies: masked copies of each sample.
        block_samples: int64 [blocks], samples of each, in the order of the manifest.
        shards: the blocks of each, by the name of its file.
        lengths: uint16 [samples], in the order of the manifest.
        counts: uint16 [copies, samples], masked tokens.
        paired: bool [samples], whether there is a segment B.
        unigram: int64 [vocab_size], how often each id occurs as text.
    """

    def __init__(self, location: str | Path, name: str, cache: Cache | None = None) -> None:
        """``cache``: where blocks of a URL are kept, the user's cache folder if not said; a path needs none.

        Raises ValueError where there is no such split, or its index does not belong to it.
        """
        self.location, self.name = str(location), name
        self._files = opened(location, cache)
        self.remote = isinstance(self._files, RemoteFolder)
        self._beside: Beside | None = None
        self._waiting = Stopwatch()
        if self.remote:
            manifest = Manifest.parse(self._files.whole(FILE), f"{self.location}/{FILE}")
        else:
            manifest = Manifest.load(Path(self.location))
        if name not in manifest.splits:
            raise ValueError(f"{self.location}: no split {name!r}; there are {', '.join(manifest.splits)}")
        entry = manifest.splits[name]
        self.fingerprint = manifest.fingerprint
        self.content = entry.content
        self.tokenizer_fingerprint = manifest.tokenizer
        self._tokenizer_kind = manifest.tokenizer_kind
        self.vocab_size = manifest.vocab_size
        self.seq_length = int(manifest.config["pairs"]["seq_length"])
        self.pairs = str(manifest.config["pairs"]["objective"])
        self.sources = tuple(manifest.sources)
        self.samples, self.tokens, self.documents = entry.samples, entry.tokens, entry.documents
        self.copies = len(entry.masked)
        self.block_samples = np.array([samples for shard in entry.shards for samples in shard.samples], np.int64)
        self._index = entry.index
        self.lengths, self.counts, self.paired, self.unigram = (
            self._column(column) for column in ("lengths", "counts", "paired", "unigram")
        )
        self._readers = [ShardReader(self._files, shard) for shard in entry.shards]
        self._shard_ends = np.cumsum([len(shard.samples) for shard in entry.shards])
        ends = [0, *self._shard_ends.tolist()]
        self.shards = {
            shard.name: range(begin, end)
            for shard, (begin, end) in zip(entry.shards, itertools.pairwise(ends), strict=True)
        }

    @functools.cached_property
    def keys(self) -> npt.NDArray[np.uint64]:
        """By which a ledger knows the samples: uint64 [samples]. Raises ValueError as the constructor."""
        return self._column("keys")

    @functools.cached_property
    def block_ends(self) -> npt.NDArray[np.int64]:
        """Where each block ends, counted in samples: int64 [blocks]."""
        return np.cumsum(self.block_samples)

    def reading(self, beside: Beside) -> Split:
        """The same, each block read with what is kept of it beside."""
        both = copying.copy(self)
        both._beside, both.remote = beside, self.remote or beside.remote
        both._waiting = Stopwatch()
        return both

    @property
    def waited(self) -> float:
        """Seconds in which ``columns`` of some block waited for what is kept beside."""
        return self._waiting.seconds

    def block(self, number: int, copy: int) -> Block:
        """A block, numbered as in the manifest. Raises as ``columns``."""
        reader, own = self._place(number)
        return reader.read(own, copy)

    def columns(self, number: int, copy: int) -> Columns:
        """What training needs of a block.

        Raises ValueError that names the block: DamagedBlock if it is not as it was written.
        """
        reader, own = self._place(number)
        members = reader.members(own)
        try:
            columns = Columns.of(members, copy)
        except ValueError as error:
            raise ValueError(f"{reader.where(own)}: {error}") from error
        if self._beside is None:
            return columns
        with self._waiting:
            return dataclasses.replace(columns, soft=self._beside.rows(number, copy))

    def masked(self, number: int, copy: int) -> int:
        """Masked tokens of a block's copy."""
        end = int(self.block_ends[number])
        return int(self.counts[copy][end - int(self.block_samples[number]) : end].sum())

    def where(self, number: int) -> str:
        """A block's file, key and offset, for a message."""
        reader, own = self._place(number)
        return reader.where(own)

    def check(self, number: int, copy: int) -> None:
        """Reads a block, and raises DamagedBlock if it, or what is read beside it, is not as it was written."""
        reader, own = self._place(number)
        reader.members(own)
        if self._beside:
            self._beside.check(number, copy)

    @contextlib.contextmanager
    def tokenizer(self) -> Iterator[Path]:
        """The tokenizer's folder; one that is far away is copied for as long as this lasts."""
        if isinstance(self._files, LocalFolder):
            yield Path(self.location) / "tokenizer"
            return
        own = [kind.FILE for kind in KINDS if self._tokenizer_kind == kind.KIND]
        with tempfile.TemporaryDirectory() as folder:
            for name in (*own, "tokenizer.json", "tokenizer_config.json"):
                (Path(folder) / name).write_bytes(self._files.whole(f"tokenizer/{name}"))
            yield Path(folder)

    @functools.cached_property
    def unigram_log_probabilities(self) -> npt.NDArray[np.float64]:
        """Log of each id's share of the text, with one added to every count: float64 [vocab_size]."""
        return log_probabilities(self.unigram)

    def _column(self, name: str) -> npt.NDArray:
        file, expected = f"{self.name}.{name}.npy", self._index.get(name)
        column = self._files.array(file, lambda data: hashlib.sha256(data).hexdigest() == expected)
        if column is None:
            raise ValueError(f"{self.location}/{file} is missing or not the manifest's; build the shards again")
        return column

    def _place(self, number: int) -> tuple[ShardReader, int]:
        shard = int(np.searchsorted(self._shard_ends, number, side="right"))
        first = int(self._shard_ends[shard - 1]) if shard else 0
        return self._readers[shard], number - first


def log_probabilities(unigram: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Log of each id's share, with one added to every count: float64 [ids]."""
    counts = unigram.astype(np.float64) + 1
    return np.log(counts / counts.sum())
