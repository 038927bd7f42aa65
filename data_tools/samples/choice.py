"""Which tokens are masked: runs of whole units, begun in random order, until a sample's budget is used up.

The units of a sample are visited in random order. One that is not masked yet, and fits into what is left of the
budget, begins a run, which goes on over the units that follow it until it is as long as it was to be, or the next
unit is masked already, of another segment, or larger than what is left of the budget. A budget is never exceeded,
and in the end every unit left out is larger than what is left of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples, ranges
from data_tools.shards.keyed_rng import U32, U64, draws

_ORDER, _LENGTH = 0, 1  # what draws are for: the last word of their counter
_CELLS = 1 << 18  # of a grid: its arrays stay in the cache
_NEVER = np.uint64(2**64 - 1)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to choose.

    Attributes:
        rate: share of a sample's tokens, special ones not counted, that makes its budget: rounded, at least 1.
        whole_words: whether a unit is a word; else it is a token.
        run_lengths: float64 [longest], the probability that a run is to be 1, 2, ... units long.
        weights: float64 [vocabulary], how likely each id is to be chosen beside the others; None for all alike. A
            unit weighs the mean of its tokens, so that its length makes it neither likelier nor rarer, and with
            equal weights nothing is weighed. A run is as likely as the unit that it begins with.
    """

    rate: float
    whole_words: bool
    run_lengths: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64] | None = None


def chosen_tokens(samples: Samples, choice: Choice, key: int, copy: int) -> npt.NDArray[np.bool_]:
    """Whether each token is chosen, bool [tokens]: a function of each sample by itself, the key and the copy."""
    chosen = np.zeros(len(samples.ids), bool)
    for grid in _grids(samples, choice.whole_words):
        if choice.weights is None and not choice.whole_words and len(choice.run_lengths) == 1:
            chosen[grid.first_of(grid.order(choice, key, copy), choice.rate)] = True
        else:
            chosen[grid.walked(choice, key, copy)] = True
    return chosen


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Samples of similar lengths as rows, a token a cell; what is left of a row is padding.

    Attributes:
        samples: all of them.
        rows: int64 [rows], which ones lie here.
        begins: int64 [rows], the first token of each.
        width: cells of a row.
        whole_words: whether a unit is a word.
    """

    samples: Samples
    rows: I64
    begins: I64
    width: int
    whole_words: bool

    @property
    def tokens(self) -> I64:
        """int64 [rows, width], the token of each cell; that of padding is any."""
        return np.minimum(self.begins[:, None] + np.arange(self.width), len(self.samples.ids) - 1)

    @functools.cached_property
    def blocked(self) -> npt.NDArray[np.bool_]:
        """bool [rows, width], special tokens and padding."""
        column = np.arange(self.width)
        lengths, first = self.samples.lengths[self.rows, None], self.samples.first[self.rows, None]
        return (column == 0) | (column == first + 1) | (column >= lengths - 1)

    @functools.cached_property
    def heads(self) -> npt.NDArray[np.bool_]:
        """bool [rows, width], where units begin."""
        return ~self.blocked & self.samples.words[self.tokens] if self.whole_words else ~self.blocked

    def budgets(self, rate: float) -> I64:
        """Tokens to choose in each row: int64 [rows]."""
        paired = self.samples.first[self.rows] + 2 < self.samples.lengths[self.rows]
        content = self.samples.lengths[self.rows] - 2 - paired
        return np.where(content > 0, np.maximum(1, np.floor(rate * content + 0.5).astype(np.int64)), 0)

    def order(self, choice: Choice, key: int, copy: int) -> U64:
        """uint64 [rows, width], sorted within each row: the columns where units begin, in random order, in the low
        half; then the largest number in all cells where none begins."""
        documents, numbers = self.samples.documents[self.rows, None], self.samples.numbers[self.rows, None]
        groups = np.arange(-(-self.width // 4), dtype=np.uint32)  # four draws at a time
        drawn = draws(key, documents, numbers, np.uint32(copy), groups, _ORDER)
        draw = np.stack(drawn, axis=-1).reshape(len(self.rows), -1)[:, : self.width]
        if choice.weights is not None:
            draw = self._raced(draw, choice.weights)
        keys = draw.astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= np.arange(self.width, dtype=np.uint64)
        np.copyto(keys, _NEVER, where=~self.heads)
        keys.sort(axis=1)
        return keys

    def _raced(self, draw: U32, weights: npt.NDArray[np.float64]) -> U32:
        """The draws as times of arrival, exponential with the unit's weight for rate: the order of arrival is that of
        drawing by weight without replacement (Efraimidis and Spirakis 2006). The bits of positive floats sort as
        the floats do.
        """
        marks = np.flatnonzero(self.heads | self.blocked)
        of_tokens = np.add.reduceat(weights[self.samples.ids[self.tokens]].ravel(), marks)
        weight = of_tokens / np.diff(marks, append=draw.size)
        times = np.zeros(draw.size, np.float32)
        times[marks] = -np.log((draw.ravel()[marks] + 0.5) / 2**32) / weight
        return times.view(np.uint32).reshape(draw.shape)

    def first_of(self, order: U64, rate: float) -> I64:
        """The tokens that come first, as many as the budget, where every token is a unit and a run: int64 [chosen]."""
        budgets = self.budgets(rate)[:, None]
        cells = order[:, : budgets.max()].astype(np.uint32) + self.begins[:, None]
        return cells[np.arange(cells.shape[1]) < budgets]

    def walked(self, choice: Choice, key: int, copy: int) -> I64:
        """The tokens of the runs: int64 [chosen]."""
        blocked = self.blocked.ravel()
        marks = np.flatnonzero(self.heads.ravel() | blocked)  # where a unit begins, or what is none
        sizes = np.diff(marks, append=len(blocked))
        size_at = np.zeros(len(blocked) + 1, np.int64)
        size_at[marks] = sizes
        taken = np.append(blocked, True)
        order = self.order(choice, key, copy)
        left = self.budgets(choice.rate)
        chosen = []
        thresholds = np.round(np.cumsum(choice.run_lengths)[:-1] * 2**32).astype(np.uint64)
        wanted = np.ones((4, len(self.rows)), np.int64)
        active = np.flatnonzero(left)
        for visit in range(self.width):
            active = active[(left[active] > 0) & (order[active, visit] != _NEVER)]
            if not len(active):
                break
            if len(thresholds) and visit % 4 == 0:
                which = self.rows[active]
                documents, numbers = self.samples.documents[which], self.samples.numbers[which]
                drawn = draws(key, documents, numbers, np.uint32(copy), visit // 4, _LENGTH)
                wanted[:, active] = 1 + np.searchsorted(thresholds, np.stack(drawn), side="right")
            cells = order[active, visit].astype(np.uint32) + active * self.width
            chosen += _extend(active, cells, wanted[visit % 4, active], size_at, taken, left)
        units = np.concatenate([np.zeros(0, np.int64), *chosen])
        cells = ranges(units, size_at[units])
        return self.begins[cells // self.width] + cells % self.width


def _extend(rows: I64, cells: I64, wanted: I64, size_at: I64, taken: npt.NDArray[np.bool_], left: I64) -> list[I64]:
    """Take a run of as many units as are wanted from each cell on, at most; ``taken`` and ``left`` tell of it.

    Returns the cells where the units begin that are taken, in arrays.
    """
    units = []
    run = 0
    while len(rows):
        sizes = size_at[cells]
        going = (run < wanted) & ~taken[cells] & (sizes <= left[rows])
        rows, cells, sizes, wanted = rows[going], cells[going], sizes[going], wanted[going]
        taken[cells] = True
        units.append(cells)
        left[rows] -= sizes
        cells = cells + sizes
        run += 1
    return units


def _grids(samples: Samples, whole_words: bool) -> Iterator[_Grid]:
    """The samples by the power of two that holds their length."""
    begins = np.cumsum(samples.lengths) - samples.lengths
    exponents = np.frexp(samples.lengths - 1)[1]
    for exponent in np.unique(exponents):
        rows = np.flatnonzero(exponents == exponent)
        per_grid = max(1, _CELLS >> int(exponent))
        for first in range(0, len(rows), per_grid):
            part = rows[first : first + per_grid]
            yield _Grid(samples, part, begins[part], 1 << int(exponent), whole_words)
