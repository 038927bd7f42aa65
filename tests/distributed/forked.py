"""Ranks that start in a second: forked from a server that has imported everything, and killed as any others are."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

import launcher.distill
import launcher.pretrain
import launcher.teach
from tests.distributed.bench import free_port

SERVER = multiprocessing.get_context("forkserver")  # of all tests: there is one, and the first use starts it
SERVER.set_forkserver_preload(["tests.distributed.preloaded"])


class Job:
    """A launcher and the ranks that it forked.

    Attributes:
        launcher: its process id.
        ranks: theirs.
    """

    def __init__(self, ranks: int, arguments: list[str], log: Path, before: Callable[[int], None] | None) -> None:
        self._codes, there = multiprocessing.Pipe(duplex=False)
        self._process = SERVER.Process(target=_launch, args=(there, ranks, free_port(), arguments, log, before))
        self._process.start()
        there.close()
        self.ranks: list[int] = self._codes.recv()
        self.launcher = self._process.pid or 0

    @property
    def pids(self) -> list[int]:
        """All processes, the launcher first."""
        return [self.launcher, *self.ranks]

    def alive(self) -> list[int]:
        """Those that still run."""
        return [pid for pid in self.pids if _alive(pid)]

    def shared(self) -> set[Path]:
        """The files of named shared memory that they have open."""
        lines = [line for pid in self.alive() for line in _maps(pid).splitlines()]
        return {Path("/dev/shm", line.partition("/dev/shm/")[2]) for line in lines if "/dev/shm/" in line}

    def gone(self, seconds: float) -> float:
        """Waits until none is left, and returns how long that took; AssertionError if it takes longer."""
        begun = time.monotonic()
        while alive := self.alive():
            assert time.monotonic() < begun + seconds, f"{len(alive)} processes live on"
            time.sleep(0.01)
        return time.monotonic() - begun

    def codes(self, seconds: float) -> list[int]:
        """Waits for the end; returns the exit codes of the ranks, a signal's negative."""
        self.gone(seconds)
        return self._codes.recv()

    def clear(self) -> None:
        """Leaves nothing behind."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.join()


@contextlib.contextmanager
def forked(ranks: int, arguments: list[str], log: Path, before: Callable[[int], None] | None = None) -> Iterator[Job]:
    """A job of pretrain.py, or of distill.py where a teacher is named, for as long as the context lasts.

    Args:
        ranks: how many.
        arguments: of the command line.
        log: gets what the ranks print; a folder ``tmp`` beside it, what they take for temporary.
        before: what each rank does first, given its number; a function of a module.
    """
    job = Job(ranks, arguments, log, before)
    try:
        yield job
    finally:
        job.clear()


def serving(arguments: list[str], log: Path) -> multiprocessing.process.BaseProcess:
    """A teacher at work: teach.py with arguments, which are to say --serve."""
    process = SERVER.Process(target=_serve, args=(arguments, log))
    process.start()
    return process


def _launch(
    pipe: Connection, ranks: int, port: int, arguments: list[str], log: Path, before: Callable[[int], None] | None
) -> None:
    """A launcher: forks the ranks, and waits for them as long as they take."""
    multiprocessing.set_start_method("fork", force=True)  # the default, as in processes that no server forks
    children = []
    for rank in range(ranks):
        child = os.fork()
        if not child:
            _rank(rank, ranks, port, arguments, log, before)
        children.append(child)
    pipe.send(children)
    pipe.send([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


def _rank(
    rank: int, ranks: int, port: int, arguments: list[str], log: Path, before: Callable[[int], None] | None
) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": ranks, "RANK": rank, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in address.items()})
    _print_to(log)
    temporary = log.with_name("tmp")
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    if before:
        before(rank)
    distils = not {"--teacher", "--soft", "--fleet"}.isdisjoint(arguments)
    (launcher.distill if distils else launcher.pretrain).main(arguments)


def _serve(arguments: list[str], log: Path) -> None:
    _print_to(log)
    sys.exit(launcher.teach.main(arguments))


def _print_to(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
