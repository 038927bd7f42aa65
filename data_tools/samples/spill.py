"""Samples on their way from documents to shards: batches on disk, each sorted by a random key.

A shard is a range of the keys. Gathering a range from all batches and sorting it shuffles the whole corpus in
memory bounded by a shard, and gives the same order however the documents were batched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import COLUMNS, Samples, concatenate
from data_tools.shards.keyed_rng import U64, draws, key_of


def write(folder: Path, samples: Samples, seed: int) -> None:
    """Write a batch of samples, sorted by key, into a new folder."""
    keys = _keys(samples, seed)
    order = np.argsort(keys, kind="stable")
    sorted_samples = samples.take(order)
    folder.mkdir(parents=True)
    for name in COLUMNS:
        np.save(folder / f"{name}.npy", getattr(sorted_samples, name), allow_pickle=False)
    np.save(folder / "keys.npy", keys[order], allow_pickle=False)
    np.save(folder / "ends.npy", np.cumsum(sorted_samples.lengths), allow_pickle=False)


def ids(folder: Path) -> npt.NDArray[np.int32]:
    """The ids of a batch's samples, end to end: [tokens], read as they are looked at."""
    return _open(folder, "ids")


def gather(folders: Iterable[Path], part: int, parts: int, seed: int) -> Samples:
    """The samples of one of ``parts`` equal ranges of keys, in the order of their keys."""
    begin, end = (part << 64) // parts, ((part + 1) << 64) // parts
    found = concatenate([_between(folder, begin, end) for folder in folders])
    return found.take(np.lexsort((found.numbers, found.documents, _keys(found, seed))))


def _keys(samples: Samples, seed: int) -> U64:
    high, low, _, _ = draws(key_of(seed, "shuffle"), samples.documents, samples.numbers)
    return (high.astype(np.uint64) << np.uint64(32)) | low


def _between(folder: Path, begin: int, end: int) -> Samples:
    keys = _open(folder, "keys")
    low = int(np.searchsorted(keys, np.uint64(begin)))
    high = len(keys) if end == 1 << 64 else int(np.searchsorted(keys, np.uint64(end)))
    ends = _open(folder, "ends")
    tokens = slice(int(ends[low - 1]) if low else 0, int(ends[high - 1]) if high else 0)
    columns = {name: _open(folder, name) for name in COLUMNS}
    return Samples(
        **{
            name: np.array(data[tokens if name in ("ids", "words") else slice(low, high)])
            for name, data in columns.items()
        }
    )


def _open(folder: Path, name: str) -> npt.NDArray:
    return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
