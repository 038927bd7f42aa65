"""Samples on their way from documents to shards: runs on disk, each sorted by a random key.

A shard is a range of the keys. Gathering a range from all runs and sorting it shuffles the whole corpus in memory
bounded by a shard, and gives the same order however the documents were cut into runs. A run is an Arrow file whose
batches are equal ranges of keys, so that the samples of a range lie in one stretch of it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_tools.samples.columns import COLUMNS, I64, Samples, concatenate
from data_tools.shards.keyed_rng import U64, draws, key_of

KEYS = 1 << 64
_BATCH_SAMPLES = 256
_TYPES = {
    "keys": pa.uint64(),
    "places": pa.int64(),
    "ids": pa.list_(pa.int32()),
    "words": pa.list_(pa.uint8()),
    "lengths": pa.int64(),
    "first": pa.int64(),
    "order": pa.int8(),
    "documents": pa.uint64(),
    "numbers": pa.uint32(),
    "sources": pa.uint16(),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """Samples in the order of their keys.

    Attributes:
        samples: the samples.
        keys: uint64 [samples], ascending.
        places: int64 [samples], which document of the corpus each is of, by number.
    """

    samples: Samples
    keys: U64
    places: I64

    @classmethod
    def of(cls, samples: Samples, places: I64, seed: int) -> Run:
        """The samples in the order of the keys that the seed gives them."""
        high, low, _, _ = draws(key_of(seed, "shuffle"), samples.documents, samples.numbers)
        keys = (high.astype(np.uint64) << np.uint64(32)) | low
        return cls.ordered(samples, keys, places)

    @classmethod
    def ordered(cls, samples: Samples, keys: U64, places: I64) -> Run:
        """Samples with their keys, put in order."""
        order = np.lexsort((places, samples.numbers, samples.documents, keys))
        return cls(samples.take(order), keys[order], places[order])

    def between(self, begin: int, end: int) -> Run:
        """The samples whose keys are within a range; the end, which is not in it, is at most KEYS."""
        low = int(np.searchsorted(self.keys, np.uint64(begin)))
        high = len(self.keys) if end == KEYS else int(np.searchsorted(self.keys, np.uint64(end)))
        return Run(self.samples.take(np.arange(low, high)), self.keys[low:high], self.places[low:high])


def save(path: Path, runs: Sequence[Run]) -> None:
    """Write runs, at least one, as one."""
    count = len(runs)
    chunks = (_joined([run.between(begin, end) for run in runs]) for begin, end in _ranges(count))
    _write(path, chunks, count, max(1, sum(len(run.samples) for run in runs) // (count * _BATCH_SAMPLES)))


def _ranges(count: int) -> Iterable[tuple[int, int]]:
    """So many equal ranges of keys."""
    return itertools.pairwise(_boundary(number, count) for number in range(count + 1))


def _joined(runs: Sequence[Run]) -> Run:
    samples = concatenate([run.samples for run in runs])
    keys, places = (np.concatenate([getattr(run, name) for run in runs]) for name in ("keys", "places"))
    return Run.ordered(samples, keys, places)


def _write(path: Path, chunks: Iterable[Run], count: int, batches: int) -> None:
    """Write samples as one run.

    Args:
        chunks: of ``count`` equal ranges of keys, in their order, one at a time.
        batches: of each chunk.
    """
    schema = pa.schema(list(_TYPES.items()))
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, schema) as writer:
        for number, run in enumerate(chunks):
            ends = [_boundary(number * batches + batch, count * batches) for batch in range(1, batches)]
            edges = [0, *np.searchsorted(run.keys, np.array(ends, np.uint64)).tolist(), len(run.keys)]
            tokens = np.concatenate(([0], np.cumsum(run.samples.lengths)))
            for begin, end in itertools.pairwise(edges):
                writer.write_batch(_batch(run, begin, end, tokens, schema))


def merge(runs: Sequence[tuple[Path, int]], path: Path) -> None:
    """Write what several runs hold as one, with no more of it in memory than about one of them.

    Args:
        runs: files, each with the number of its first document in the corpus; in the merged run, the places are
            numbers in the corpus.
    """
    batches = sum(map(_batches, runs)) // len(runs) + 1
    _write(path, (gather(runs, begin, end) for begin, end in _ranges(len(runs))), len(runs), batches)


def _batches(run: tuple[Path, int]) -> int:
    with pa.memory_map(str(run[0])) as stream, pa.ipc.open_file(stream) as reader:
        return int(reader.num_record_batches)


def gather(runs: Sequence[tuple[Path, int]], begin: int, end: int) -> Run:
    """The samples whose keys are within a range, out of all runs.

    Args:
        runs: files, at least one, each with the number of its first document in the corpus.
        begin, end: of the range; the end, which is not in it, is at most KEYS.
    """
    found = [one for path, first in runs for one in _between(path, first, begin, end)]
    columns = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    keys, places = columns.pop("keys"), columns.pop("places")
    return Run.ordered(Samples(**columns), keys, places)


def _between(path: Path, first: int, begin: int, end: int) -> Iterator[dict[str, npt.NDArray]]:
    """The columns of each batch of a run with keys in the range; always one batch at least, if an empty one."""
    with pa.memory_map(str(path)) as stream, pa.ipc.open_file(stream) as reader:
        count = reader.num_record_batches
        for number in range(begin * count // KEYS, (end - 1) * count // KEYS + 1):
            batch = reader.get_batch(number)
            keys = batch.column("keys").to_numpy()
            low = int(np.searchsorted(keys, np.uint64(begin)))
            high = len(keys) if end == KEYS else int(np.searchsorted(keys, np.uint64(end)))
            columns = {name: _numpy(batch.column(name).slice(low, high - low)) for name in batch.schema.names}
            yield {**columns, "words": columns["words"].view(bool),
                   "places": columns["places"] + first}  # fmt: skip


def _numpy(column: pa.Array) -> npt.NDArray:
    return np.array((column.flatten() if pa.types.is_list(column.type) else column).to_numpy())


def _batch(run: Run, begin: int, end: int, tokens: I64, schema: pa.Schema) -> pa.RecordBatch:
    samples = run.samples
    offsets = pa.array((tokens[begin : end + 1] - tokens[begin]).astype(np.int32))
    of_tokens = slice(int(tokens[begin]), int(tokens[end]))
    columns = {
        "keys": run.keys[begin:end],
        "places": run.places[begin:end],
        "ids": samples.ids[of_tokens],
        "words": samples.words[of_tokens].view(np.uint8),
        **{name: getattr(samples, name)[begin:end] for name in COLUMNS if name not in ("ids", "words")},
    }
    arrays = [
        pa.ListArray.from_arrays(offsets, pa.array(columns[field.name]), type=field.type)
        if pa.types.is_list(field.type)
        else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def _boundary(number: int, of: int) -> int:
    """The first key of one of so many equal ranges."""
    return -(-number * KEYS // of)
