"""No rank outlives another, nor its launcher: what would otherwise wait for a time-out of half an hour ends at once.

The ranks stand in a ring. Each waits for a word from the next, which comes when that one is done; if it dies instead,
the kernel closes its connections and the wait fails, whatever the other threads of either process are doing. A node
that loses its power closes nothing: that is for the time-outs, or the cluster, to find.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

import psutil
import torch
import torch.distributed as dist

from litebert.train.stopping import StopRequest
from litebert.train.world import Channel

LOST = 1  # the exit code of a rank that ends because another one has
GOODBYE, FOLLOW = 1, 2
LOOK_EVERY = 0.5  # seconds between two looks at the launcher
PARTING = 1.0  # seconds that the word to the rank before may take


class Watch:
    """Ends this process when another rank or the launcher is gone; a context for as long as ranks depend on each other.

    Left without an error it waits for the others to leave theirs; left by an error it says nothing, and the death
    of this process tells the others.
    """

    def __init__(
        self, channel: Channel, stop: StopRequest, launched: bool, tell: Callable[[str], None] = lambda loss: None
    ) -> None:
        """Args:
        channel: a gloo group that nothing else uses and that never times out.
        stop: gets a request where the front end of a launcher is gone and the launcher is not.
        launched: whether this process has a launcher, which stays as long as it does.
        tell: is given the line on a rank that is gone, beside standard error.
        """
        self._channel = channel
        self._tell = tell
        self._stop = stop
        self._ring = threading.Thread(target=self._wait_for_next, name="watch", daemon=True)
        if launched:
            threading.Thread(target=self._look_at_launcher, args=(os.getppid(),), name="launcher", daemon=True).start()

    def __enter__(self) -> Watch:
        if self._channel.size > 1:
            self._ring.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._channel.size > 1:
            self._tell_previous(GOODBYE).wait()
            self._ring.join()

    def _wait_for_next(self) -> None:
        following = (self._channel.rank + 1) % self._channel.size
        word = torch.zeros(1, dtype=torch.int64)
        try:
            dist.recv(word, src=following, group=self._channel.group)
        except RuntimeError:
            loss = f"rank {following} is gone, so this run ends"
            print(f"rank {self._channel.rank}: {loss}", file=sys.stderr, flush=True)
            self._tell(loss)
            word.fill_(FOLLOW)
        if word.item() == FOLLOW:
            with contextlib.suppress(RuntimeError):  # the one before may be who is gone
                parting = self._tell_previous(FOLLOW)
                deadline = time.monotonic() + PARTING
                while not parting.is_completed() and time.monotonic() < deadline:
                    time.sleep(0.01)
            os._exit(LOST)

    def _tell_previous(self, word: int) -> dist.Work:
        previous = (self._channel.rank - 1) % self._channel.size
        work = dist.isend(torch.tensor([word]), dst=previous, group=self._channel.group)
        assert work is not None
        return work

    def _look_at_launcher(self, launcher: int) -> None:
        front = _front_of(launcher)
        while os.getppid() == launcher:
            if front and _parent_of(launcher) != front:
                self._stop.ask("the deepspeed command is gone")
            time.sleep(LOOK_EVERY)
        os._exit(LOST)


def _front_of(launcher: int) -> int | None:
    """The process that users know as the launcher, where that is not the one that started the ranks."""
    try:
        if "deepspeed.launcher.launch" in psutil.Process(launcher).cmdline():
            return _parent_of(launcher)
    except psutil.Error:
        pass
    return None


def _parent_of(process: int) -> int | None:
    try:
        return psutil.Process(process).ppid()
    except psutil.Error:
        return None
