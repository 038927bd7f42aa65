"""A number for the samples of a batch: which ones, at which place, of which epoch.

It is a sum over the samples, modulo 2**64, so ranks can each add up what they were fed. A sample that is missing,
repeated, moved to another place or taken from another epoch changes its term to an unrelated one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_tools.shards.keys import U64, mixed
from litebert.data.plan import Plan

I64 = npt.NDArray[np.int64]

_EPOCH = np.uint64(40)


def terms(keys: U64, places: I64, epoch: int) -> U64:
    """What each sample adds to its batch's digest: uint64 [samples].

    Args:
        keys: of the samples.
        places: in the planned batch, from 0.
        epoch: of the folder that the samples are from.
    """
    return mixed(keys ^ mixed(places.astype(np.uint64) + (np.uint64(epoch) << _EPOCH)))


def planned_digests(plan: Plan, stop: int) -> U64:
    """The digests of batches 0 to ``stop``, from the plan and the folders' indexes of keys: uint64 [stop].

    A window at a time, about 100 ns a sample. Raises ValueError where a folder has no sound index of keys.
    """
    digests = np.zeros(stop, np.uint64)
    taken = plan.mixture.taken(np.arange(stop + 1))
    ahead = np.zeros(stop, np.int64)  # samples of the folders before, in each batch
    for folder in range(taken.shape[1]):
        edges = taken[:, folder]
        _add_folder(digests, plan, folder, edges, ahead)
        ahead += np.diff(edges)
    return digests


def _add_folder(digests: U64, plan: Plan, folder: int, edges: I64, ahead: I64) -> None:
    """Adds the terms of a folder's samples.

    Args:
        edges: the folder's samples in all batches before each, and, last, in all of them.
        ahead: by batch, the place of the folder's first sample.
    """
    split = plan.corpus.splits[folder]
    for epoch in range(-(-int(edges[-1]) // split.samples)):
        order = plan.order(folder, epoch)
        begin = epoch * split.samples
        last = order.window_at(min(int(edges[-1]) - begin, split.samples) - 1)
        for window in range(last + 1):
            first, stop = (begin + place for place in order.span(window))
            positions = np.arange(first, min(stop, int(edges[-1])))
            batches = np.searchsorted(edges, positions[[0, -1]], side="right") - 1
            own = np.arange(batches[0], batches[1] + 1)
            counts = np.minimum(edges[own + 1], positions[-1] + 1) - np.maximum(edges[own], first)
            batch = np.repeat(own, counts)
            # A batch reads what it takes from a window in the window's order: sorted together, batch by batch.
            rows = np.sort((batch - batches[0]) << 32 | order.permuted(window)[: len(positions)]) & 0xFFFFFFFF
            keys = split.keys[order.samples(window, rows)]
            found = terms(keys, positions - edges[batch] + ahead[batch], epoch)
            filled = counts > 0
            begins = (np.cumsum(counts) - counts)[filled]
            digests[own[filled]] += np.add.reduceat(found, begins)
