"""Which blocks are damaged, agreed on by all ranks before a sample of them is used."""

from __future__ import annotations

import datetime
import functools
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from data_tools.shards.reader import DamagedBlock
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split

I64 = npt.NDArray[np.int64]
_TIMEOUT = datetime.timedelta(minutes=30)
_POLL = 0.002  # seconds between two looks at whether the others have answered


class Stopped(Exception):
    """The loader was left while ranks were agreeing."""


class Quarantine:
    """The damaged blocks of windows. Each rank reads its share of a window's blocks, and tells the others.

    Args:
        plan: of the run.
        rank, world_size: this process among all.
        group: of torch.distributed, on the host, that nothing else uses; None where there is one rank.
        stopped: set when the answer is no longer wanted.
    """

    def __init__(self, plan: Plan, rank: int, world_size: int, group: object, stopped: threading.Event) -> None:
        self._plan, self._rank, self._world_size = plan, rank, world_size
        self._group, self._stopped = group, stopped
        self.damaged: Callable[[int, int, int], I64] = functools.lru_cache(maxsize=4 * len(plan.corpus.splits))(
            self._agreed
        )

    def _agreed(self, folder: int, epoch: int, window: int) -> I64:
        """The window's damaged blocks, numbered as in the manifest. All ranks call this for the same ones in turn."""
        blocks = self._plan.order(folder, epoch).window_blocks(window)
        bad = torch.zeros(len(blocks), dtype=torch.uint8)
        # A rank takes its samples from one stretch of the window; it checks the blocks that it will read.
        own = np.array_split(np.arange(len(blocks)), self._world_size)[self._rank]
        for place in own.tolist():
            bad[place] = not _sound(self._plan.corpus.splits[folder], int(blocks[place]), epoch)
        if self._group is not None:
            work = dist.all_reduce(bad, dist.ReduceOp.MAX, group=self._group, async_op=True)
            while not work.is_completed():
                if self._stopped.wait(_POLL):
                    raise Stopped
            work.wait()
        return blocks[bad.numpy().astype(bool)]


def agreement(config: DataConfig) -> object:
    """A process group for ranks to agree over; None where they need not. Collective."""
    if config.corrupt == "stop" or dist.get_world_size() == 1:
        return None
    return dist.new_group(backend="gloo", timeout=_TIMEOUT)


def _sound(split: Split, block: int, epoch: int) -> bool:
    try:
        split.check(block, epoch % split.copies)
    except DamagedBlock:
        return False
    return True
