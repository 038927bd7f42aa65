"""Daly's formula beside runs that are played through."""

from __future__ import annotations

import math

import numpy as np
import pytest

from litebert.plan.failures import Failures

TRAINED = 400_000.0  # seconds of training that stay, of a run that is played


def played(failures: Failures, interval: float, seed: int) -> float:
    """Seconds that a run takes, failure by failure; a checkpoint counts from ``written`` after its stall."""
    draws = np.random.default_rng(seed)
    now = kept = trained = 0.0
    fails = draws.exponential(failures.mtbf)
    sound = math.inf  # when the checkpoint being written is whole, and what it holds
    holds = 0.0

    def survives(seconds: float) -> bool:
        nonlocal now, fails, kept, trained, sound
        if now + seconds < fails:
            now += seconds
            if now >= sound:
                kept, sound = holds, math.inf
            return True
        if fails >= sound:
            kept = holds
        now, trained, sound = fails, kept, math.inf
        fails = now + draws.exponential(failures.mtbf)
        while fails < now + failures.restart:
            now = fails
            fails = now + draws.exponential(failures.mtbf)
        now += failures.restart
        return False

    while trained < TRAINED:
        if not survives(interval):
            continue
        trained += interval
        if survives(failures.stall):
            sound, holds = now + failures.written, trained
    return now


@pytest.mark.parametrize(
    ("mtbf", "stall", "written", "restart"),
    [(20_000, 5, 0, 300), (3_000, 30, 0, 60), (50_000, 0.02, 8, 300), (10_000, 2, 40, 600)],
)
def test_what_is_lost_is_what_runs_lose(mtbf: float, stall: float, written: float, restart: float) -> None:
    failures = Failures(mtbf, stall, written, restart)
    for interval in (failures.interval, 4 * failures.interval):
        times = np.array([played(failures, interval, seed) for seed in range(60)])
        share = 1 - TRAINED / times.mean()
        spread = 4 * times.std() / math.sqrt(len(times)) / times.mean() + interval / TRAINED
        assert failures.lost(interval) == pytest.approx(share, abs=spread)


def test_the_interval_loses_least_and_is_youngs_for_short_stalls() -> None:
    for stall in (0.1, 10.0, 600.0):
        failures = Failures(40_000.0, stall, 0.0)
        least = failures.lost(failures.interval)
        assert all(failures.lost(failures.interval * factor) > least for factor in (0.7, 0.95, 1.05, 1.4))
    assert Failures(40_000.0, 0.1, 0.0).interval == pytest.approx(math.sqrt(2 * 0.1 * 40_000), rel=2e-3)


def test_no_checkpoint_begins_before_the_last_is_written() -> None:
    assert Failures(40_000.0, 0.1, 500.0).interval == 500.0
    assert Failures.of_run(8, 5e9, 80_000.0) == Failures(10_000.0, 1.0, 20.0)
