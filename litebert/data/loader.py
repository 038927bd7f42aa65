"""The steps of a rank, read ahead in a thread while the model works on the one before."""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
import threading
from collections.abc import Generator

import torch

from data_tools.shards.blocks import Block, join
from litebert.data.batch import Step, micro_batch
from litebert.data.plan import DataConfig, Plan, StepPlan
from litebert.data.split import Split

_STEPS_AHEAD = 2
_WINDOWS_HELD = 2


class Loader:
    """Iterates over a rank's steps ``start`` to ``stop``.

    Raises what reading raised (ValueError for a damaged block) where the step is asked for.
    """

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        rank: int,
        world_size: int,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """Without ``stop``, the steps are one epoch, the last of them what is left of it.

        Raises ValueError where a batch is too small for the ranks, or a micro-batch for the samples.
        """
        self._plan = Plan(split, config, epochs=1 if stop is None else None)
        self._split = split
        self._rank, self._world_size = rank, world_size
        self._start = start
        self._stop = self._plan.steps if stop is None else stop
        if self._start < self._stop:
            self._plan.cuts(
                self._plan.step(self._start), world_size
            )  # what cannot be cut is told before anything is done
        self._window = functools.lru_cache(maxsize=_WINDOWS_HELD)(self._read_window)

    def __len__(self) -> int:
        return max(0, self._stop - self._start)

    def __iter__(self) -> Generator[Step]:
        ready: queue.Queue[Step | Exception | None] = queue.Queue(_STEPS_AHEAD)
        stopped = threading.Event()
        thread = threading.Thread(target=self._read_ahead, args=(ready, stopped), name="loader", daemon=True)
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()
            while thread.is_alive():  # it may be waiting for room in the queue
                with contextlib.suppress(queue.Empty):
                    ready.get(timeout=0.05)

    def _read_ahead(self, ready: queue.Queue[Step | Exception | None], stopped: threading.Event) -> None:
        try:
            for number in range(self._start, self._stop):
                if stopped.is_set():
                    return
                ready.put(self.step(number))
            ready.put(None)
        except Exception as error:
            ready.put(error)

    def step(self, number: int) -> Step:
        """This rank's part of a step."""
        plan = self._plan.step(number)
        cuts = self._plan.cuts(plan, self._world_size)[self._rank]
        batches = [
            micro_batch(self._gathered(plan, int(begin), int(end)), plan.counts)
            for begin, end in itertools.pairwise(cuts)
        ]
        if torch.cuda.is_available():
            batches = [batch.pin_memory() for batch in batches]
        return Step(number, plan.epoch, batches, plan.counts, plan.digest)

    def _gathered(self, plan: StepPlan, begin: int, end: int) -> Block:
        """The step's samples [begin, end), in canonical order."""
        parts = []
        for run in plan.runs:
            rows = run.rows[max(begin, 0) : max(end, 0)]
            if len(rows):
                parts.append(self._window(run.epoch, run.window).take(rows))
            begin, end = begin - len(run.rows), end - len(run.rows)
        return parts[0] if len(parts) == 1 else join(parts)

    def _read_window(self, epoch: int, window: int) -> Block:
        return self._split.blocks(self._plan.order(epoch).window_blocks(window), epoch % self._split.copies)
