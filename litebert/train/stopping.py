"""How a run comes to be stopped: by a signal to any rank, by its time, or by what cannot go on."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any

import psutil

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """What asks this rank to stop.

    As a context it holds the signals off for as long as it is entered: the first one is noted, and more of
    them change nothing, because launchers send several and a checkpoint must not be cut short by the second.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return bool(self.reason)

    def ask(self, reason: str) -> None:
        """Asks; the first reason counts. Any thread may."""
        self.reason = self.reason or reason

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.ask(signal.Signals(number).name)


def hours_running() -> float:
    """How long ago this process was started, its imports included."""
    return (time.time() - psutil.Process().create_time()) / 3600
