"""A number for the samples of a batch: which ones, at which place, of which epoch.

It is a sum over the samples, modulo 2**64, so ranks can each add up what they were fed. A sample that is missing,
repeated, moved to another place or taken from another epoch changes its term to an unrelated one.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from data_tools.shards.keys import U64, mixed
from litebert.data.order import Order
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

    A window at a time, about 100 ns a sample, on all cores. Raises ValueError where a folder has no sound index of
    keys.
    """
    digests = np.zeros(stop, np.uint64)
    taken = plan.mixture.taken(np.arange(stop + 1))
    ahead = np.zeros(stop, np.int64)  # samples of the folders before, in each batch
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for folder, edges in enumerate(taken.T):
            split = plan.corpus.splits[folder]
            for epoch in range(-(-int(edges[-1]) // split.samples)):
                order = plan.order(folder, epoch)
                share = _Share(order, epoch, epoch * split.samples, split.keys, edges, ahead)
                last = order.window_at(min(int(edges[-1]) - share.begin, split.samples) - 1)
                for batches, sums in threads.map(share.window, range(last + 1)):
                    digests[batches] += sums
            ahead += np.diff(edges)
    return digests


@dataclasses.dataclass(frozen=True)
class _Share:
    """What one epoch of a folder adds to the digests.

    Attributes:
        order, epoch: of the folder.
        begin: samples of the folder in the epochs before.
        keys: of the folder's samples.
        edges: the folder's samples in all batches before each, and, last, in all of them.
        ahead: by batch, the place of the folder's first sample.
    """

    order: Order
    epoch: int
    begin: int
    keys: U64
    edges: I64
    ahead: I64

    def window(self, window: int) -> tuple[I64, U64]:
        """The batches that a window has samples in, and the sum of the terms in each."""
        first, stop = (self.begin + place for place in self.order.span(window))
        positions = np.arange(first, min(stop, int(self.edges[-1])))
        ends = np.searchsorted(self.edges, positions[[0, -1]], side="right")
        own = np.arange(ends[0] - 1, ends[1])
        counts = np.minimum(self.edges[own + 1], positions[-1] + 1) - np.maximum(self.edges[own], first)
        batch = np.repeat(own, counts)
        # A batch reads what it takes from a window in the window's order: sorted together, batch by batch.
        rows = np.sort((batch - own[0]) << 32 | self.order.permuted(window)[: len(positions)]) & 0xFFFFFFFF
        keys = self.keys[self.order.samples(window, rows)]
        found = terms(keys, positions - self.edges[batch] + self.ahead[batch], self.epoch)
        filled = counts > 0
        return own[filled], np.add.reduceat(found, (np.cumsum(counts) - counts)[filled])
