"""How long a thing lasts that several threads do at once."""

from __future__ import annotations

import threading
import time


class Stopwatch:
    """Runs while at least one thread is inside of its context."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = self._begun = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._begun = time.monotonic()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before += time.monotonic() - self._begun

    @property
    def seconds(self) -> float:
        """That it ran so far."""
        with self._lock:
            return self._before + (time.monotonic() - self._begun if self._inside else 0.0)
