"""LAMB from checkpoint to checkpoint, and a schedule that goes by the clock."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from litebert.train.checkpoint import latest
from tests.distributed.bench import Bench

pytestmark = pytest.mark.distributed

STEPS, HALF = 6, 3
LAMB = ("--optimizer.kind", "lamb", "--optimizer.lr", "2e-2", "--train.steps", str(STEPS))
# Stage and precision; bf16 at stage 1 is a class of its own in DeepSpeed.
CASES = ((1, "fp32"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16"))
RUNS = {f"{stage}_{precision}": (stage, precision) for stage, precision in CASES}
# The bench's steps take some 50 ms each: a run of a few dozen.
BY_TIME = ("--schedule.kind", "cosine", "--schedule.hours", "0.0015", "--train.steps", "1000000")
SECONDS = 0.0015 * 3600


def job(bench: Bench, run: str, *overrides: str, stage: int = 1, stop_after: int | None = None) -> dict[str, Any]:
    return {"arguments": bench.arguments(run, *overrides, stage=stage), "stop_after": stop_after}


@pytest.fixture(scope="module")
def outcomes(bench: Bench) -> list[int | str]:
    jobs = []
    for name, (stage, precision) in RUNS.items():
        overrides = (*LAMB, "--train.precision", precision)
        jobs += [
            job(bench, f"lamb_whole_{name}", *overrides, stage=stage),
            job(bench, f"lamb_halves_{name}", *overrides, stage=stage, stop_after=HALF),
            job(bench, f"lamb_halves_{name}", *overrides, stage=stage),
        ]
    adamw = ("--optimizer.lr", "2e-2", "--train.steps", str(STEPS))
    jobs += [
        job(bench, "lamb_whole_1_fp32", *adamw),
        job(bench, "by_time", *BY_TIME, stop_after=10),
        job(bench, "by_time", *BY_TIME),
        job(bench, "by_time", *BY_TIME),
    ]
    return bench.group(2, jobs, timeout=300)[0]


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_of_lamb_is_the_whole_run_bit_for_bit(bench: Bench, outcomes: Any, name: str) -> None:
    assert bench.metrics(f"lamb_halves_{name}") == bench.metrics(f"lamb_whole_{name}")
    assert bench.hashes(f"lamb_halves_{name}", STEPS) == bench.hashes(f"lamb_whole_{name}", STEPS)


def test_stages_agree_in_bf16(bench: Bench, outcomes: Any) -> None:
    """Stages 2 and 3 reduce each micro-batch's gradients in bf16, stage 1 what it has summed in fp32; with AdamW they
    are as far apart."""
    one, two, three = (bench.losses(f"lamb_whole_{stage}_bf16") for stage in (1, 2, 3))
    np.testing.assert_allclose(three, two, rtol=0, atol=1e-6)
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-3)


def test_trust_ratios_are_shown(bench: Bench, outcomes: Any) -> None:
    for line in bench.metrics("lamb_whole_1_fp32"):
        assert 0 < line["trust_ratio_min"] < line["trust_ratio_median"] < line["trust_ratio_max"]
    events = EventAccumulator(str(bench.run("lamb_whole_1_fp32") / "tensorboard"), {"histograms": 0}).Reload()
    assert [event.step for event in events.Histograms("trust_ratio")] == list(range(1, STEPS + 1))


def test_another_optimizer_is_refused(bench: Bench, outcomes: list[int | str]) -> None:
    message = outcomes[3 * len(RUNS)]
    assert isinstance(message, str) and "optimizer.kind was lamb, now adamw" in message


def test_a_run_by_the_clock_ends_with_its_hours(bench: Bench, outcomes: list[int | str]) -> None:
    """Stopped after 10 steps, gone on with to the end of its time, and then at its end."""
    assert outcomes[-3:] == [85, 0, 0]
    lines = bench.metrics("by_time")
    elapsed = [line["elapsed_s"] for line in lines]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(np.diff(elapsed) >= 0) and elapsed[-2] < SECONDS <= elapsed[-1]
    found = latest(bench.run("by_time"))
    assert found is not None and (found.step, found.info["seconds"]) == (len(lines), elapsed[-1])
    assert json.loads((bench.run("by_time") / "done.json").read_text()) == {"step": len(lines)}
    for before, line in zip(elapsed[4:], lines[5:], strict=False):  # the warm-up's 5 steps are over
        assert line["lr"] == pytest.approx(3e-3 * (1 + np.cos(np.pi * before / SECONDS)) / 2, rel=1e-9)
