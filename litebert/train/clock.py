"""How long a run has been training."""

from __future__ import annotations

import time

from litebert.train.world import Channel


class Clock:
    """Seconds of training, over all sessions of a run; the same on all ranks, because rank 0 tells them.

    Attributes:
        seconds: at the last ``tick``.
    """

    def __init__(self, channel: Channel, seconds: float) -> None:
        """Args:
        channel: of all ranks.
        seconds: that the checkpoint gone on from says.
        """
        self._channel = channel
        self._began = time.monotonic() - seconds
        self.seconds = seconds

    def tick(self) -> None:
        """Reads the time; collective."""
        milliseconds = self._channel.broadcast(round((time.monotonic() - self._began) * 1000))
        self.seconds = milliseconds / 1000
