"""Who changes places with whom, so that nobody meets one of his own: second segments of other documents."""

from __future__ import annotations

import numpy as np

from data_tools.samples.columns import I64
from data_tools.shards.keyed_rng import U64


def strangers(documents: U64, groups: I64) -> I64:
    """A permutation within groups that brings every sample one of another document, or leaves it its own place.

    Where a document has more samples of a group than all others together, only as many of it can change places as
    there are others; in all other groups of two documents or more, everyone does.

    Args:
        documents: uint64 [samples], key of each one's document.
        groups: int64 [samples], who may change places with whom.

    Returns:
        int64 [samples], whose place each one gets.
    """
    found = np.arange(len(groups))
    order = np.lexsort((documents, groups))
    for group in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        _, begins, counts = np.unique(documents[group], return_index=True, return_counts=True)
        if not len(counts):
            continue
        largest = int(counts.argmax())
        others = len(group) - int(counts[largest])
        surplus = max(0, int(counts[largest]) - others)
        moving = np.delete(group, begins[largest] + others + np.arange(surplus))
        # By document in a ring, no document fills more than this of it, nor more than half: none meets itself.
        found[moving] = np.roll(moving, -min(int(counts[largest]), others)) if others else moving
    return found
