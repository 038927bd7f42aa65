"""How far a long job has come: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_LOG_SECONDS = 10.0


class Progress:
    """Counts work and shows it on standard error.

    Args:
        label: what is being done.
        unit: what is counted.
        total: how much there is, None if that is not known.
    """

    def __init__(self, label: str, unit: str, total: float | None = None) -> None:
        self._label, self._unit, self._total = label, unit, total
        self._done = 0.0
        self._begin = self._shown = time.monotonic()
        self._bar = tqdm(total=total, desc=label, unit=unit, unit_scale=True) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._line()

    def advance(self, amount: float) -> None:
        """Add to what is done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif time.monotonic() - self._shown > _LOG_SECONDS:
            self._shown = time.monotonic()
            self._line()

    def _line(self) -> None:
        seconds = time.monotonic() - self._begin
        rate = self._done / max(seconds, 1e-9)
        of_total = f" of {self._total:,.0f}" if self._total else ""
        line = f"{self._label}: {self._done:,.0f}{of_total} {self._unit}, {seconds:.1f} s, {rate:,.0f} {self._unit}/s"
        print(line, file=sys.stderr, flush=True)
