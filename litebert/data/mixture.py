"""How many samples of each folder the batches before any batch have taken: a pure function of its number.

A step's samples come from the folders in fixed shares, which may change from a given step on: 128 tokens first, then
512, is one folder first, then another. Each folder has its own place, and its own epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

_SLOTS = 1 << 16


class Mixture:
    """The shares of folders, by step.

    Args:
        samples: of each folder.
        shares: by the step from which they hold, a share for each folder; they need not add up to one. Where there
            are none, each folder's is its number of samples, so that all begin their epochs together.
        global_batch: samples of a step.

    Raises ValueError where the shares are not one for each folder.
    """

    def __init__(self, samples: Sequence[int], shares: Mapping[int, Sequence[float]], global_batch: int) -> None:
        phases = sorted(shares.items()) or [(0, samples)]
        for begin, phase in phases:
            if len(phase) != len(samples):
                raise ValueError(
                    f"data.mixture has {len(phase)} shares from step {begin} on, and --data {len(samples)} folders:"
                    " give one share for each"
                )
        self._batch = global_batch
        self._begins = np.array([begin for begin, _ in phases], np.int64)
        self._patterns = [_Pattern(np.asarray(phase, np.float64)) for _, phase in phases]
        self._taken = np.zeros((len(phases), len(samples)), np.int64)
        for number, length in enumerate(np.diff(self._begins)):
            self._taken[number + 1] = self._taken[number] + self._patterns[number].taken(length * global_batch)

    def taken(self, batches: npt.ArrayLike) -> I64:
        """Samples of each folder in all batches before each of some: int64 [..., folders]."""
        batches = np.asarray(batches, np.int64)
        phases = np.searchsorted(self._begins, batches, side="right") - 1
        taken = np.empty((*batches.shape, self._taken.shape[1]), np.int64)
        for number in np.unique(phases):
            within = phases == number
            slots = (batches[within] - self._begins[number]) * self._batch
            taken[within] = self._taken[number] + self._patterns[number].taken(slots)
        return taken


class _Pattern:
    """Slots that repeat, each one folder's; those of a folder lie as evenly as they can."""

    def __init__(self, shares: npt.NDArray[np.float64]) -> None:
        exact = shares / shares.sum() * (_SLOTS if len(shares) > 1 else 1)
        self._slots = np.where(exact > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
        self._slots[np.argmax(self._slots)] += round(exact.sum()) - self._slots.sum()  # what rounding left
        places = np.concatenate([(np.arange(slots) + 0.5) / max(slots, 1) for slots in self._slots])
        folders = np.repeat(np.arange(len(shares)), self._slots)[np.argsort(places, kind="stable")]
        self._before = np.zeros((len(folders) + 1, len(shares)), np.int64)
        np.cumsum(folders[:, None] == np.arange(len(shares)), axis=0, out=self._before[1:])

    def taken(self, slots: npt.ArrayLike) -> I64:
        """Of the first slots, how many are each folder's: int64 [..., folders]."""
        rounds, rest = np.divmod(np.asarray(slots, np.int64), len(self._before) - 1)
        return rounds[..., None] * self._slots + self._before[rest]
