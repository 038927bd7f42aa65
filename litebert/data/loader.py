"""The steps of a rank, read ahead in a thread while the model works on the one before."""

from __future__ import annotations

import contextlib
import functools
import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from litebert.data.batch import MicroBatch, Step, micro_batch
from litebert.data.columns import Columns, join
from litebert.data.corpus import Corpus
from litebert.data.digest import terms
from litebert.data.plan import DataConfig, Plan, StepPlan
from litebert.data.quarantine import Quarantine, Stopped
from litebert.data.split import Split
from litebert.data.window import Window

_STEPS_AHEAD = 2
_LOOK_EVERY = 0.5  # seconds between two looks at whether a step is still wanted
_PARTING = 2.0  # seconds that reading may take to end when no step is wanted any more; a server may never answer
_WINDOWS_HELD = 2  # of each folder
_REQUESTS, _REQUESTS_AHEAD = 8, 4  # at once, to a server: for the window that is read, and for the next one


class Loader:
    """Iterates over a rank's steps ``start`` to ``stop``.

    In memory are two steps ahead, and of two windows of each folder what this rank has read of them. Raises what
    reading raised where the step is asked for: ValueError that names file, block and place.
    """

    def __init__(
        self,
        data: Corpus | Split,
        config: DataConfig,
        rank: int,
        world_size: int,
        start: int = 0,
        stop: int | None = None,
        group: object = None,
        waiting: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        """Without ``stop``, the steps are one epoch of a split, the last of them what is left of it.

        ``group`` is one of torch.distributed on the host, for this loader alone; only several ranks that quarantine
        need one. ``waiting`` is told now and then for how long a step has been waited for, in seconds; what it raises
        ends the iteration.

        Raises ValueError where a batch is too small for the ranks, or a micro-batch for the samples.
        """
        self._plan = Plan(data, config, epochs=1 if stop is None else None)
        self._rank, self._world_size = rank, world_size
        self._start, self._waiting = start, waiting
        self._stop = self._plan.steps if stop is None else stop
        if self._start < self._stop:  # what cannot be cut is told before anything is done
            self._plan.cuts(self._plan.step(self._start), world_size)
        self._left = threading.Event()
        self._quarantine = None
        if config.corrupt == "quarantine":
            assert world_size == 1 or group is not None
            self._quarantine = Quarantine(self._plan, rank, world_size, group, self._left)
        self._requests: ThreadPoolExecutor | None = None
        self._requests_ahead: ThreadPoolExecutor | None = None
        held = _WINDOWS_HELD * len(self._plan.corpus.splits)
        self._asked: set[tuple[int, int, int]] = set()
        self._ahead: dict[tuple[int, int, int], dict[int, Future[None]]] = {}
        self._window = functools.lru_cache(maxsize=held)(self._open_window)

    def __len__(self) -> int:
        return max(0, self._stop - self._start)

    def __iter__(self) -> Generator[Step]:
        ready: queue.Queue[Step | Exception | None] = queue.Queue(_STEPS_AHEAD)
        self._left.clear()
        thread = threading.Thread(target=self._read_ahead, args=(ready,), name="loader", daemon=True)
        thread.start()
        try:
            while (item := self._next(ready)) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._left.set()
            begun = time.monotonic()
            while thread.is_alive() and time.monotonic() - begun < _PARTING:  # it may be waiting for room in the queue
                with contextlib.suppress(queue.Empty):
                    ready.get(timeout=0.05)

    def _next(self, ready: queue.Queue[Step | Exception | None]) -> Step | Exception | None:
        begun = time.monotonic()
        while True:
            try:
                return ready.get(timeout=_LOOK_EVERY)
            except queue.Empty:
                self._waiting(time.monotonic() - begun)

    def _read_ahead(self, ready: queue.Queue[Step | Exception | None]) -> None:
        try:
            with self._connected():
                for number in range(self._start, self._stop):
                    if self._left.is_set():
                        return
                    ready.put(self.step(number))
            ready.put(None)
        except Stopped:
            return
        except Exception as error:
            ready.put(error)

    @contextlib.contextmanager
    def _connected(self) -> Generator[None]:
        """Several requests at once, where blocks come over a network."""
        if not any(split.remote for split in self._plan.corpus.splits):
            yield
            return
        self._requests = now = ThreadPoolExecutor(_REQUESTS, "loader")
        self._requests_ahead = ahead = ThreadPoolExecutor(_REQUESTS_AHEAD, "loader")
        try:
            yield
        finally:
            self._requests = self._requests_ahead = None
            for pool in (now, ahead):  # what is asked for in vain must not keep an error from being told
                pool.shutdown(wait=False, cancel_futures=True)

    def step(self, number: int) -> Step:
        """This rank's part of a step."""
        plan = self._plan.step(number)
        if self._quarantine:
            plan = self._plan.without(plan, self._quarantine.damaged)
        batches, digest = [], 0
        for begin, end in itertools.pairwise(self._plan.cuts(plan, self._world_size)[self._rank].tolist()):
            batch, share = self._micro_batch(plan, begin, end)
            batches.append(batch.pin_memory() if torch.cuda.is_available() else batch)
            digest += share
        return Step(number, batches, plan.counts, digest % 2**64, plan.quarantined)

    def _micro_batch(self, plan: StepPlan, begin: int, end: int) -> tuple[MicroBatch, int]:
        """The step's samples [begin, end), in canonical order, and the sum of their digest's terms."""
        parts: list[tuple[Columns, np.ndarray]] = []
        digest = 0
        for run in plan.runs:
            own = slice(max(begin, 0), max(end, 0))
            if len(rows := run.rows[own]):
                columns, places = self._window(run.folder, run.epoch, run.window).at(rows)
                self._fetch_ahead(run.folder, run.epoch, run.window + 1)  # now: it would have delayed these
                parts.append((columns, places))
                digest += int(terms(columns.keys[places], run.places[own], run.epoch).sum())
            begin, end = begin - len(run.rows), end - len(run.rows)
        if len(parts) == 1:
            ((columns, places),) = parts
        else:
            columns = join([columns.take(places) for columns, places in parts])
            places = np.arange(len(columns))
        return micro_batch(columns, places, plan.counts), digest

    def _open_window(self, folder: int, epoch: int, window: int) -> Window:
        split, order = self._plan.corpus.splits[folder], self._plan.order(folder, epoch)
        numbers, sizes = order.window_blocks(window), order.sizes(window)
        ahead = self._ahead.pop((folder, epoch, window), {})
        lost = np.zeros_like(sizes)
        if self._quarantine:
            lost = np.where(np.isin(numbers, self._quarantine.damaged(folder, epoch, window)), sizes, 0)

        def each(block: int) -> Columns:
            if (request := ahead.get(block)) and not request.cancel() and request.running():
                request.result()  # it is on its way: to ask as well would fetch it twice
            return split.columns(block, epoch % split.copies)

        def read(blocks: Iterable[int]) -> list[Columns]:
            if self._requests and split.remote:
                return list(self._requests.map(each, blocks))
            return [each(block) for block in blocks]

        return Window(numbers, sizes - lost, lost, read)

    def _fetch_ahead(self, folder: int, epoch: int, window: int) -> None:
        """Has a window's blocks, those that this rank will read, brought to the cache, once."""
        requests = self._requests_ahead
        if requests is None or not self._plan.corpus.splits[folder].remote:
            return
        if window == self._plan.order(folder, epoch).windows:
            epoch, window = epoch + 1, 0
        if (asked := (folder, epoch, window)) in self._asked:
            return
        self._asked.add(asked)
        order, split = self._plan.order(folder, epoch), self._plan.corpus.splits[folder]
        if epoch * split.samples + order.span(window)[0] >= self._plan.taken(folder, self._stop):
            return
        own = np.array_split(order.window_blocks(window), self._world_size)[self._rank].tolist()
        self._ahead[asked] = {  # what is wrong shows when it is read
            block: requests.submit(split.check, block, epoch % split.copies) for block in own
        }
