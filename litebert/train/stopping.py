"""How a run comes to be stopped: by a signal to any rank, by its time, or by what cannot go on."""

from __future__ import annotations

import math
import os
import signal
import time
from types import FrameType

import psutil

from litebert.train.place import Place

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
CONTINUE = 85  # the exit code of a run that was stopped and wants to be started again
PATIENCE = 5.0  # seconds that a run waits for data when it is asked to stop
_STDERR = 2


class Starved(Exception):
    """The run was asked to stop while it waited for data, so that there is no step to stop after."""


class StopRequest:
    """What asks this rank to stop.

    Attributes:
        reason: of the first who asked; empty where nobody has.
        deadline: a time.monotonic() at which one that waits for data is asked to stop.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.deadline = math.inf
        self._since = math.inf

    def listen(self) -> None:
        """Takes signals for requests from now on. More of them change nothing: launchers send several, and a checkpoint
        must not be cut short by the second."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return bool(self.reason)

    def ask(self, reason: str) -> None:
        """Asks; the first reason counts. Any thread may."""
        if not self.reason:
            self.reason, self._since = reason, time.monotonic()

    def starve(self, seconds: float) -> None:
        """Takes note that data have been waited for so long. Raises Starved where a stop cannot wait for them."""
        now = time.monotonic()
        if now > self.deadline:
            self.ask("train.max_hours")
        if min(seconds, now - self._since) > PATIENCE:
            raise Starved(
                f"stopped ({self.reason}) while no data came; the same command goes on from its newest checkpoint"
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.ask(signal.Signals(number).name)


def leave_on_signals() -> None:
    """Lets signals end the process at once, in a line, as long as it has begun nothing: until a StopRequest listens."""
    for number in STOP_SIGNALS:
        signal.signal(number, _leave)


def hours_running() -> float:
    """How long ago this process was started, its imports included."""
    return (time.time() - psutil.Process().create_time()) / 3600


def _leave(number: int, frame: FrameType | None) -> None:
    if Place.here().rank == 0:
        text = f"stopped ({signal.Signals(number).name}) before anything was begun; the same command goes on\n"
        os.write(_STDERR, text.encode())  # a print may be what was interrupted
    os._exit(CONTINUE)
