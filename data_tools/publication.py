"""The last step of a build: shards, index, tokenizer and manifest become the output folder, by one rename."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from data_tools.samples import fairness
from data_tools.samples.preparation import SPLITS
from data_tools.shards import tar
from data_tools.shards.manifest import Manifest, Shard, SplitEntry
from data_tools.stages.assembling import Assembling
from data_tools.stages.sources import load_sources
from data_tools.stages.totals import Totals
from data_tools.work import Work, put_in_place, synchronize

_OUTPUT = "output"
_INDEX = ("lengths", "counts", "paired", "keys", "sources")


def publish(work: Work, assembling: Assembling, described: dict[str, Any], output: Path) -> Manifest:
    """Make the output folder of a build whose shards are all finished. Killed within, it can be done again.

    Args:
        described: the fields of the manifest that say what it was built from.
    """
    folder = work.folder / _OUTPUT
    folder.mkdir(exist_ok=True)
    totals, sources = Totals.load(work), load_sources(work)
    manifest = Manifest(
        **described,
        documents_read=totals.read,
        rejected=dict(sorted(totals.rejected.items())),
        broken_bytes=totals.broken_bytes,
        sources=sources,
        splits={split: _split(work, assembling, split, totals, sources, folder) for split in SPLITS},
    )
    shutil.copytree(work.folder / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    manifest.save(folder)
    for path in (*folder.rglob("*"), folder):
        synchronize(path)
    put_in_place(folder, output)
    return manifest


def _split(
    work: Work, assembling: Assembling, split: str, totals: Totals, sources: list[str], folder: Path
) -> SplitEntry:
    shards: list[Shard] = []
    made: list[Path] = []
    for item in assembling.of_split(split):
        if (shard := assembling.shard(item)) is not None:
            shards.append(shard)
            made.append(work.path(assembling.name, item))
            if (path := made[-1] / shard.name).exists():
                path.rename(folder / shard.name)
    samples = sum(sum(shard.samples) for shard in shards)
    for name in _INDEX:
        join_columns(folder / f"{split}.{name}.npy", [path / f"{name}.npy" for path in made], samples)
    np.save(folder / f"{split}.unigram.npy", Totals.unigram(work, split), allow_pickle=False)
    counts = [totals.splits[split].get(source, {}).get("samples", 0) for source in sources]
    masked = np.sum([np.load(path / "counts.npy").sum(axis=1, dtype=np.int64) for path in made], axis=0)
    return SplitEntry(
        documents=totals.total(split, "documents"),
        characters=totals.total(split, "characters"),
        samples=samples,
        tokens=sum(shard.tokens for shard in shards),
        pairs=sum(int(np.count_nonzero(np.load(path / "paired.npy"))) for path in made),
        masked=masked.tolist(),
        shards=shards,
        index={name: tar.sha256(folder / f"{split}.{name}.npy") for name in (*_INDEX, "unigram")},
        sources=totals.splits[split],
        fairness=dataclasses.asdict(fairness.measure(_Columns(made), counts)),
    )


class _Columns(Sequence[fairness.Columns]):
    """Sources and places of each shard, loaded when they are asked for."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def __len__(self) -> int:
        return len(self._folders)

    @overload
    def __getitem__(self, index: int) -> fairness.Columns: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[fairness.Columns]: ...
    def __getitem__(self, index: int | slice) -> fairness.Columns | Sequence[fairness.Columns]:
        if isinstance(index, slice):
            return _Columns(self._folders[index])
        folder = self._folders[index]
        return np.load(folder / "sources.npy"), np.load(folder / "places.npy")


def join_columns(path: Path, parts: Sequence[Path], samples: int) -> None:
    """Write arrays [..., samples] end to end as one, with one of them in memory at a time."""
    shape = (*np.load(parts[0], mmap_mode="r").shape[:-1], samples)
    with path.open("wb") as stream:
        done = 0
        for number, part in enumerate(parts):
            array: npt.NDArray = np.load(part, allow_pickle=False)
            if not number:
                fields = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, fields)
                begin = stream.tell()
            for row, values in enumerate(array.reshape(-1, array.shape[-1])):
                stream.seek(begin + (row * samples + done) * array.itemsize)
                stream.write(values.tobytes())
            done += array.shape[-1]
