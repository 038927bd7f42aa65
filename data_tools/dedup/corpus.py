"""The documents of a build as the deduplication stages meet them: parts, in order, with their signatures.

A position names a document, or a paragraph, of the whole corpus: the number of its part above 32 bits of its row there.
Rows count the part's documents, or the paragraphs of all of them; the order of positions is the order of the input.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_tools.shards.keyed_rng import U64
from data_tools.work import Work

_ROW = np.uint64(32)
_ROWS = np.uint64(2**32 - 1)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The parts that a stage left, each with the arrays of its ``signatures``.

    Attributes:
        work: the work folder.
        stage: that left the documents.
    """

    work: Work
    stage: str

    @functools.cached_property
    def parts(self) -> list[str]:
        """The names of the parts, in order; all, once the stage is done."""
        return self.work.finished(self.stage)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {part: number for number, part in enumerate(self.parts)}

    def signature(self, part: str, name: str) -> npt.NDArray:
        """A signature of a part, mapped and not read."""
        return self.array(self.stage, part, name)

    def array(self, stage: str, item: str, name: str) -> npt.NDArray:
        """An array that a stage wrote, mapped and not read."""
        return np.load(self.work.path(stage, item) / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def column(self, part: str, name: str) -> pa.ChunkedArray:
        """A column of a part's documents."""
        with pa.memory_map(str(self.work.path(self.stage, part) / "documents.arrow")) as source:
            field = pa.ipc.open_file(source).schema.get_field_index(name)
            options = pa.ipc.IpcReadOptions(included_fields=[field])  # nothing else is read
            return pa.ipc.open_file(source, options=options).read_all()[name]

    def positions(self, part: str, rows: npt.NDArray) -> U64:
        """Positions of rows of a part, uint64 of the same shape."""
        return (np.uint64(self._numbers[part]) << _ROW) | rows.astype(np.uint64)

    def rows(self, part: str, positions: U64) -> tuple[npt.NDArray[np.int64], slice]:
        """The rows of a part that are among ascending positions, and where they stand."""
        number = self._numbers[part]
        begin, end = np.searchsorted(positions, np.array([number, number + 1], np.uint64) << _ROW)
        return (positions[begin:end] & _ROWS).astype(np.int64), slice(int(begin), int(end))

    def ids(self, positions: U64) -> list[str]:
        """The ids of the documents at positions."""
        found = np.zeros(len(positions), object)
        part_of, rows = positions >> _ROW, positions & _ROWS
        for number in np.unique(part_of):
            here = part_of == number
            found[here] = self.column(self.parts[number], "id").take(pa.array(rows[here])).to_pylist()
        return found.tolist()


def save(folder: Path, arrays: Mapping[str, npt.NDArray]) -> None:
    """Write named arrays into a folder."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
