"""The blocks that are shuffled together, read when a sample of them is wanted.

The samples that a rank takes from a window in a step are neighbours in it, and about the same blocks' in every step;
so each rank reads its own stretch of the window, and no rank needs more than that in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from litebert.data.columns import Columns, join

I64 = npt.NDArray[np.int64]
Reader = Callable[[Iterable[int]], list[Columns]]


class Window:
    """The samples of some blocks, end to end.

    Args:
        numbers: of the blocks, in the order of the window.
        sizes: samples of each; 0 for a block that is never to be read.
        lost: samples that a block would have had, for one that is never to be read, else 0.
        read: gives the columns of blocks.
    """

    def __init__(self, numbers: I64, sizes: I64, lost: I64, read: Reader) -> None:
        self._numbers, self._read, self._sizes = numbers, read, sizes
        self._ends = np.cumsum(sizes + lost)
        self._before = np.cumsum(lost) - lost  # lost samples ahead of each block
        self._kept = np.cumsum(sizes) - sizes
        self._first = self._stop = 0
        self._columns: Columns | None = None

    @property
    def stretch(self) -> tuple[int, int]:
        """The blocks [first, stop) of the window that are in memory."""
        return self._first, self._stop

    def at(self, rows: I64) -> tuple[Columns, I64]:
        """Columns that hold some samples, and where in them.

        Args:
            rows: ascending, at least one; none of a lost block.

        Raises what reading raises.
        """
        blocks = np.searchsorted(self._ends, rows[[0, -1]], side="right")
        columns = self._reaching(int(blocks[0]), int(blocks[1]) + 1)
        if self._before[-1]:
            rows = rows - self._before[np.searchsorted(self._ends, rows, side="right")]
        return columns, rows - self._kept[self._first]

    def _reaching(self, first: int, stop: int) -> Columns:
        if self._columns is None:
            self._first = self._stop = first
        elif self._first <= first and stop <= self._stop:
            return self._columns
        left, right = range(first, self._first), range(self._stop, stop)
        wanted = [block for block in (*left, *right) if self._sizes[block]]
        read = self._read(int(self._numbers[block]) for block in wanted)
        ahead = sum(block < self._first for block in wanted)
        held = [self._columns] if self._columns is not None else []
        self._columns = join([*read[:ahead], *held, *read[ahead:]])
        self._first, self._stop = min(first, self._first), max(stop, self._stop)
        return self._columns
