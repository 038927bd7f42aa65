"""What work costs: processor and wall time of runs in turn, and where in data_tools the processor's time goes."""

from __future__ import annotations

import dataclasses
import gc
import resource
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Self

import data_tools

_ROOT = Path(data_tools.__file__).parent
_TICK = 0.002  # seconds
# Whoever calls these is at work.
_SHARED = {"samples/columns.py", "shards/keyed_rng.py"}
_STAGES = {
    "words": ("text/words",),
    "pieces": ("text/tokenizer", "text/wordpiece"),
    "sentences": ("text/sentences",),
    "canonical": ("text/normalization", "text/folding"),
    "filters": ("documents/filters", "documents/selection"),
    "reading": tuple(f"documents/{name}" for name in ("read", "file", "formats", "encodings", "compression", "kinds")),
    "parts": ("documents/parts", "samples/runs", "work"),  # what one stage leaves on the disk for the next
    "cleaning": ("documents/",),
    "masks": ("samples/masks", "samples/choice"),
    "pairs": ("samples/pairs", "samples/preparation", "samples/strangers"),
    "duplicates": ("dedup/",),
}
_REST = "writing"  # shards, and what is left


@dataclasses.dataclass
class Costs:
    """Seconds of each run."""

    cpus: list[float] = dataclasses.field(default_factory=list)
    walls: list[float] = dataclasses.field(default_factory=list)

    @property
    def cpu(self) -> float:
        """The median, of processor time."""
        return statistics.median(self.cpus)

    @property
    def wall(self) -> float:
        """The median, of wall time."""
        return statistics.median(self.walls)


def in_turn(entries: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Costs]:
    """Run each entry, then each again: what slows the machine for a while slows all of them."""
    costs = {name: Costs() for name in entries}
    for _ in range(repeats):
        for name, work in entries.items():
            gc.collect()
            cpu, wall = _cpu(), time.perf_counter()
            work()
            costs[name].walls.append(time.perf_counter() - wall)
            costs[name].cpus.append(_cpu() - cpu)
    return costs


def _cpu() -> float:
    """Seconds of processor time that this process and its finished children have used."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Sampler:
    """Attributes this process's processor time to stages, by what file of data_tools was at work at each tick.

    A tick that comes while a library is at work waits for its end, and then counts all the time since the last tick:
    for the call that has just ended.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = 0.0

    def __enter__(self) -> Self:
        self._last = time.process_time()
        self._before = signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, _TICK, _TICK)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, self._before)

    def _tick(self, number: int, frame: FrameType | None) -> None:
        now = time.process_time()
        self.seconds[_stage(frame)] += now - self._last
        self._last = now


def _stage(frame: FrameType | None) -> str:
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and (inside := path.relative_to(_ROOT).as_posix()) not in _SHARED:
            return next((stage for stage, starts in _STAGES.items() if inside.startswith(starts)), _REST)
        frame = frame.f_back
    return _REST
