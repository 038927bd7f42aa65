"""Processes of this machine.

datatrove's LocalPipelineExecutor is a multiprocessing pool, which waits for ever for a task whose process was killed;
concurrent.futures notices.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from data_tools.executors.interface import Steps
from data_tools.progress import Progress
from data_tools.work import Stage, Work

_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class LocalExecutor:
    """Does the work in this process, or in several of this machine.

    Attributes:
        workers: processes; with one, the work is done here.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: at least one is needed")

    def run(self, work: Work, steps: Steps) -> None:
        """See ``Executor``."""
        work.clear_unfinished()
        if self.workers == 1:
            for stage in (stage for step in steps for stage in step):
                _run_here(work, stage)
            return
        try:
            with _pool(self.workers, work, steps) as pool:
                for step in steps:
                    _Together(pool, self.workers, work, step).run()
        except BrokenProcessPool:
            raise ValueError(
                "a worker process was killed, by hand or by the system because memory ran out (then give fewer"
                " --workers); the same command goes on where it was"
            ) from None


def _run_here(work: Work, stage: Stage) -> None:
    items = stage.items()
    with Progress(stage.name, "items", len(items)) as progress:
        for item in items:
            work.finish(stage, item)
            progress.advance(1)


class _Together:
    """The stages of one step, the later ones doing what the earlier ones have left for them so far."""

    def __init__(self, pool: ProcessPoolExecutor, workers: int, work: Work, stages: Sequence[Stage]) -> None:
        self._pool, self._workers, self._work, self._stages = pool, workers, work, stages
        self._known: dict[str, set[str]] = {stage.name: set() for stage in stages}
        self._waiting: dict[str, deque[str]] = {stage.name: deque() for stage in stages}
        self._running: dict[Future[None], str] = {}

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            progress = {stage.name: stack.enter_context(Progress(stage.name, "items")) for stage in self._stages}
            while True:
                self._ask()
                self._submit()
                if not self._running:
                    return
                done, _ = wait(self._running, _POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    progress[self._running.pop(future)].advance(1)

    def _ask(self) -> None:
        """Take up the items there are now, unless there are enough to do."""
        if sum(map(len, self._waiting.values())) > self._workers and self._running:
            return
        for stage in self._stages:
            known = self._known[stage.name]
            new = [item for item in stage.items() if item not in known]
            known.update(new)
            self._waiting[stage.name].extend(new)

    def _submit(self) -> None:
        """Keep the workers busy, with later stages first: what is read is worked on before more is read."""
        for stage in reversed(self._stages):
            waiting = self._waiting[stage.name]
            while waiting and len(self._running) <= self._workers:
                self._running[self._pool.submit(_run_there, stage.name, waiting.popleft())] = stage.name


# In a worker: the build it works for.
_work: Work
_stages: dict[str, Stage]


def _start(work: Work, steps: Steps) -> None:
    global _work, _stages
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once: nothing is lost but the items at work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work, _stages = work, {stage.name: stage for step in steps for stage in step}


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_there(stage: str, item: str) -> None:
    _work.finish(_stages[stage], item)


@contextlib.contextmanager
def _pool(workers: int, work: Work, steps: Steps) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, which end with this block, whatever they are at if it is left by an error."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (work, steps))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
