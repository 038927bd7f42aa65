"""Samples on their way from documents to shards: runs on disk, each sorted by a random key.

A shard is a range of the keys. Gathering a range from all runs and sorting it shuffles the whole corpus in memory
bounded by a shard, and gives the same order however the documents were cut into runs. A run is two numpy files, one of
its samples and one of their tokens, end to end in the same order: a range of keys is one stretch of each.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples, take_ranges
from data_tools.shards.keyed_rng import draws, key_of

KEYS = 1 << 64
_RECORD = np.dtype(
    [
        ("key", np.uint64),
        ("document", np.uint64),
        ("number", np.uint32),
        ("place", np.int64),
        ("begin", np.int64),  # of its tokens, in the run
        ("length", np.uint16),
        ("first", np.uint16),
        ("order", np.int8),
        ("source", np.uint16),
    ]
)


@dataclasses.dataclass(frozen=True)
class Run:
    """Samples in the order of their keys.

    Attributes:
        records: [samples], all of them but their tokens, by ascending key.
        tokens: uint16 or uint32 [tokens], twice an id, and 1 more where a word begins.
    """

    records: npt.NDArray[np.void]
    tokens: npt.NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, samples: Samples, places: I64, seed: int, vocab_size: int) -> Run:
        """The samples in the order of the keys that the seed gives them.

        Args:
            places: int64 [samples], which document of the corpus each is of, by number.
        """
        high, low, _, _ = draws(key_of(seed, "shuffle"), samples.documents, samples.numbers)
        records = np.empty(len(samples), _RECORD)
        records["key"] = (high.astype(np.uint64) << np.uint64(32)) | low
        records["document"], records["number"], records["place"] = samples.documents, samples.numbers, places
        records["begin"], records["length"] = np.cumsum(samples.lengths) - samples.lengths, samples.lengths
        records["first"], records["order"], records["source"] = samples.first, samples.order, samples.sources
        doubled = samples.ids << 1
        doubled |= samples.words
        return cls(records, doubled.astype(np.uint16 if vocab_size <= 1 << 15 else np.uint32))._sorted()

    @classmethod
    def joined(cls, runs: Sequence[Run]) -> Run:
        """The samples of runs, at least one, as one."""
        records = np.concatenate([run.records for run in runs])
        begins = np.cumsum([0, *(len(run.tokens) for run in runs[:-1])])
        records["begin"] += np.repeat(begins, [len(run.records) for run in runs])
        return cls(records, np.concatenate([run.tokens for run in runs]))._sorted()

    def _sorted(self) -> Run:
        keys = np.ascontiguousarray(self.records["key"])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if np.any(keys[1:] == keys[:-1]):  # the same document, twice, or chance
            order = np.lexsort([self.records[name] for name in ("place", "number", "document", "key")])
        records = self.records[order]
        lengths = records["length"].astype(np.int64)
        tokens = take_ranges(self.tokens, records["begin"], lengths)
        records["begin"] = np.cumsum(lengths) - lengths
        return Run(records, tokens)

    def between(self, begin: int, end: int) -> Run:
        """The samples whose keys are within a range; the end, which is not in it, is at most KEYS."""
        # Not by searchsorted, which would make, of a run on disk, an array of all keys.
        low, high = (bisect.bisect_left(self.records, key, key=_key_of) for key in (begin, end))
        records = np.array(self.records[low:high])
        if not len(records):
            return Run(records, self.tokens[:0])
        first, last = int(records[0]["begin"]), int(records[-1]["begin"]) + int(records[-1]["length"])
        records["begin"] -= first
        return Run(records, self.tokens[first:last])

    @property
    def places(self) -> I64:
        """int64 [samples], which document of the corpus each is of, by number."""
        return np.ascontiguousarray(self.records["place"])

    @property
    def samples(self) -> Samples:
        """The samples."""
        return Samples(
            ids=(self.tokens >> 1).astype(np.int32),
            words=(self.tokens & 1).astype(bool),
            lengths=self.records["length"].astype(np.int64),
            first=self.records["first"].astype(np.int64),
            order=np.ascontiguousarray(self.records["order"]),
            documents=np.ascontiguousarray(self.records["document"]),
            numbers=np.ascontiguousarray(self.records["number"]),
            sources=np.ascontiguousarray(self.records["source"]),
        )


def exists(path: Path) -> bool:
    """Whether there is a run."""
    return _records_file(path).exists()


def save(path: Path, runs: Sequence[Run]) -> None:
    """Write runs, at least one, as one: the files ``path`` with more to their names."""
    chunks = (Run.joined([run.between(begin, end) for run in runs]) for begin, end in _ranges(len(runs)))
    _write(path, chunks, sum(len(run.records) for run in runs), sum(len(run.tokens) for run in runs))


def merge(runs: Sequence[tuple[Path, int]], path: Path) -> None:
    """Write what several runs hold as one, with no more of it in memory than about one of them.

    Args:
        runs: each with the number of its first document in the corpus; in the merged run, the places are numbers in
            the corpus.
    """
    found = [_opened(run) for run, _ in runs]
    chunks = (gather(runs, begin, end) for begin, end in _ranges(len(runs)))
    _write(path, chunks, sum(len(run.records) for run in found), sum(len(run.tokens) for run in found))


def gather(runs: Sequence[tuple[Path, int]], begin: int, end: int) -> Run:
    """The samples whose keys are within a range, out of all runs.

    Args:
        runs: at least one, each with the number of its first document in the corpus.
        begin, end: of the range; the end, which is not in it, is at most KEYS.
    """
    found = []
    for path, first in runs:
        run = _opened(path).between(begin, end)
        run.records["place"] += first
        found.append(run)
    return Run.joined(found)


def _key_of(record: np.void) -> int:
    return int(record["key"])


def _ranges(count: int) -> Iterable[tuple[int, int]]:
    """So many equal ranges of keys."""
    return itertools.pairwise(-(-number * KEYS // count) for number in range(count + 1))


def _records_file(path: Path) -> Path:
    return path.with_suffix(".samples.npy")


def _tokens_file(path: Path) -> Path:
    return path.with_suffix(".tokens.npy")


def _opened(path: Path) -> Run:
    """A run, mapped and not read."""
    return Run(*(np.asarray(np.load(file, mmap_mode="r")) for file in (_records_file(path), _tokens_file(path))))


def _write(path: Path, chunks: Iterable[Run], samples: int, tokens: int) -> None:
    """Write chunks, each of a range of keys, end to end."""
    done = 0
    with _records_file(path).open("wb") as of_records, _tokens_file(path).open("wb") as of_tokens:
        for chunk in chunks:
            if not done:
                _write_header(of_records, _RECORD, samples)
                _write_header(of_tokens, chunk.tokens.dtype, tokens)
            chunk.records["begin"] += done
            done += len(chunk.tokens)
            chunk.records.tofile(of_records)
            chunk.tokens.tofile(of_tokens)


def _write_header(stream: BinaryIO, dtype: np.dtype, count: int) -> None:
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(stream, fields)
