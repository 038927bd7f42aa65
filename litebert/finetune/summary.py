"""Scores over seeds, and how far the seeds may move them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import Any

from scipy import stats

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """A score over seeds.

    Attributes:
        mean: of them, a share of 1.
        interval: 95 %, by Student's t, of the seeds alone; None of one seed.
        scores: of seeds 1, 2, ...
    """

    mean: float
    interval: tuple[float, float] | None
    scores: tuple[float, ...]

    @classmethod
    def of(cls, scores: Sequence[float]) -> Summary:
        """Mean and interval."""
        mean, count = fmean(scores), len(scores)
        if count < 2:
            return cls(mean, None, tuple(scores))
        return cls(mean, _interval(mean, variance(scores) / count, count - 1, 0.0), tuple(scores))


def above(score: Summary, floor: Summary) -> dict[str, Any]:
    """How far a score is above its floor, with a 95 % interval of the difference (Welch 1947); None of one seed."""
    difference, count = score.mean - floor.mean, len(score.scores)
    if count < 2:
        return {"mean": difference, "interval": None}
    parts = [variance(each.scores) / count for each in (score, floor)]
    freedom = sum(parts) ** 2 / sum(part**2 / (count - 1) for part in parts) if any(parts) else 1
    return {"mean": difference, "interval": _interval(difference, sum(parts), freedom, -1.0)}


def _interval(mean: float, spread: float, freedom: float, least: float) -> tuple[float, float]:
    """Of Student's t, around a mean whose variance is estimated with so many degrees of freedom; from least to 1."""
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(spread)
    return max(least, mean - margin), min(1.0, mean + margin)
