"""Time that several threads spend at once counts once, beside a list of who was inside when."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from litebert.data.stopwatch import Stopwatch


def test_time_of_several_threads_counts_once() -> None:
    watch, chance = Stopwatch(), np.random.default_rng(1)
    plans = chance.uniform(0.0, 0.15, (4, 6, 2)).tolist()

    def inside(plan: list[tuple[float, float]]) -> list[tuple[float, float]]:
        spans = []
        for outside, within in plan:
            time.sleep(outside)
            with watch:
                begun = time.monotonic()
                time.sleep(within)
                spans.append((begun, time.monotonic()))
        return spans

    with ThreadPoolExecutor(4) as pool:
        spans = sorted(span for own in pool.map(inside, plans) for span in own)
    together, end = 0.0, 0.0
    for begun, ended in spans:
        together += max(0.0, ended - max(begun, end))
        end = max(end, ended)
    assert watch.seconds == pytest.approx(together, rel=0.05)
    assert together < 0.9 * sum(ended - begun for begun, ended in spans)
    stopped = watch.seconds
    time.sleep(0.05)
    assert watch.seconds == stopped


def test_it_can_be_read_while_it_runs() -> None:
    watch = Stopwatch()
    with watch:
        time.sleep(0.1)
        assert watch.seconds >= 0.1
