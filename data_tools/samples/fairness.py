"""How fairly samples are shuffled: windows of consecutive ones beside what chance gives a fair draw.

Each window of n consecutive samples is compared with the corpus of N in two ways. The number of samples of each source
gives Pearson's chi-square, which under a fair draw without replacement has a mean of (sources - 1)(N - n)/(N - 1). The
mean number of their documents gives a z score, which has a mean square of 1.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

WINDOW = 1000
_EXPECTED = 5  # samples of a source in a window at least; rarer sources count as one


@dataclasses.dataclass(frozen=True)
class Fairness:
    """Over all whole windows.

    Attributes:
        window: samples of each.
        windows: how many.
        sources: mean chi-square of the sources' shares over what a fair draw has; 1 is fair. 0 for a single source.
        place: root mean square of the z scores of the mean document number; 1 is fair.
        worst: the largest of the z scores, without its sign.
        expected_worst: the z score that the largest of so many fair draws is below or above with even chances.
    """

    window: int
    windows: int
    sources: float
    place: float
    worst: float
    expected_worst: float

    def __str__(self) -> str:
        shares = f"source shares {self.sources:.2f}, " if self.sources else ""
        return (
            f"{self.windows:,} windows of {self.window:,} samples: {shares}document numbers {self.place:.2f} of the"
            f" spread of a fair draw; the farthest is {self.worst:.1f} standard deviations off,"
            f" {self.expected_worst:.1f} are usual"
        )


Columns = tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]


def measure(parts: Sequence[Columns], counts: Sequence[int]) -> Fairness:
    """Measure samples in their order.

    Args:
        parts: stretches of them, end to end; of each, the number of the source and that of the document, [samples].
            They are gone through twice, and may be loaded when they are asked for.
        counts: samples of each source.
    """
    size = sum(counts)
    window = max(1, min(WINDOW, size // 10))
    shares = np.array(counts) / size
    common = shares * window >= _EXPECTED
    groups = np.where(common, np.cumsum(common) - 1, np.count_nonzero(common))  # the rare ones are the last group
    expected = np.bincount(groups, weights=shares * window)
    expected = expected[expected > 0]
    mean = sum(float(places.sum(dtype=np.float64)) for _, places in parts) / size
    variance = sum(float(np.square(places - mean).sum()) for _, places in parts) / size
    drawn = (size - window) / max(size - 1, 1)
    squares, scores = [], []
    for sources, places in _windows(parts, window):
        seen = np.bincount(groups[sources], minlength=len(expected))
        squares.append(float((np.square(seen - expected) / expected).sum()))
        scores.append(float((places.mean() - mean) / np.sqrt(variance / window * drawn)) if variance * drawn else 0.0)
    usual = (len(expected) - 1) * drawn
    return Fairness(
        window=window,
        windows=len(scores),
        sources=round(float(np.mean(squares)) / usual, 4) if usual else 0.0,
        place=round(float(np.sqrt(np.mean(np.square(scores)))), 4),
        worst=round(float(np.abs(scores).max()), 4),
        expected_worst=round(statistics.NormalDist().inv_cdf((1 + 0.5 ** (1 / len(scores))) / 2), 4),
    )


def _windows(parts: Iterable[Columns], window: int) -> Iterator[Columns]:
    """Whole windows of consecutive samples, across the parts' ends."""
    sources, places = np.zeros(0, np.uint16), np.zeros(0, np.int64)
    for part in parts:
        sources, places = np.concatenate([sources, part[0]]), np.concatenate([places, part[1]])
        whole = len(sources) // window * window
        for begin in range(0, whole, window):
            yield sources[begin : begin + window], places[begin : begin + window]
        sources, places = sources[whole:], places[whole:]
