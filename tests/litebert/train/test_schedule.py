"""The learning rate against torch's own schedulers and Hugging Face's, and in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from transformers.optimization import get_polynomial_decay_schedule_with_warmup, get_wsd_schedule

from litebert.train.schedule import ScheduleConfig, is_over, lr_factor

WARMUP, STEPS, FINAL = 7, 40, 0.1


def reference(kind: str) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    decay: LRScheduler
    if kind == "cosine":
        decay = CosineAnnealingLR(optimizer, T_max=STEPS - WARMUP, eta_min=FINAL)
    else:
        final = FINAL if kind == "linear" else 1.0
        decay = LinearLR(optimizer, 1.0, final, total_iters=STEPS - WARMUP)
    warmup = LinearLR(optimizer, 1 / WARMUP, 1.0, total_iters=WARMUP - 1)
    scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[WARMUP])
    rates: list[float] = []
    for _ in range(STEPS):
        rates.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_rates_are_those_of_torch(kind: Any) -> None:
    config = ScheduleConfig(warmup_steps=WARMUP, kind=kind, final_ratio=0.0 if kind == "constant" else FINAL)
    assert [lr_factor(config, step, STEPS) for step in range(STEPS)] == pytest.approx(reference(kind), rel=1e-9)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_polynomial_rates_are_those_of_hugging_face(power: float) -> None:
    config = ScheduleConfig(warmup_steps=WARMUP, kind="polynomial", final_ratio=FINAL, power=power)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = get_polynomial_decay_schedule_with_warmup(optimizer, WARMUP, STEPS, lr_end=FINAL, power=power).lr_lambdas[
        0
    ]
    for step in range(WARMUP, STEPS):
        assert lr_factor(config, step, STEPS) == pytest.approx(theirs(step), rel=1e-12)


def test_wsd_keeps_the_peak_and_then_decays_as_hugging_face_does() -> None:
    """Theirs counts steps: 33 after the warm-up, of which a third decay."""
    config = ScheduleConfig(warmup_steps=WARMUP, kind="wsd", final_ratio=FINAL, decay_share=1 / 3)
    theirs = get_wsd_schedule(
        torch.optim.SGD([torch.zeros(1)], lr=1.0),
        num_warmup_steps=WARMUP,
        num_stable_steps=22,
        num_decay_steps=11,
        min_lr_ratio=FINAL,
        decay_type="1-sqrt",
    ).lr_lambdas[0]
    rates = [lr_factor(config, step, STEPS) for step in range(WARMUP, STEPS)]
    assert rates == pytest.approx([theirs(step) for step in range(WARMUP, STEPS)], rel=1e-9)
    assert rates[:23] == pytest.approx([1.0] * 23) and rates[23] < 0.8


@pytest.mark.parametrize("kind", ["linear", "cosine", "polynomial", "wsd"])
def test_by_the_clock_a_share_of_the_time_is_a_share_of_the_steps(kind: Any) -> None:
    by_time = ScheduleConfig(kind=kind, final_ratio=FINAL, hours=2)
    by_steps = ScheduleConfig(kind=kind, final_ratio=FINAL)
    for minute in range(120):
        assert lr_factor(by_time, 5, 10**6, 60.0 * minute) == pytest.approx(lr_factor(by_steps, minute, 120))
    assert lr_factor(by_time, 5, 10**6, 9000.0) == FINAL  # late
    warming = ScheduleConfig(kind=kind, warmup_steps=4, hours=2)
    assert [lr_factor(warming, step, 10**6, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    slow = [lr_factor(warming, step, 10**6, 6900.0) for step in range(6)]
    decayed = lr_factor(ScheduleConfig(kind=kind, hours=2), 0, 10**6, 6900.0)
    assert (
        slow == [min(0.25, decayed), *[min(climb, decayed) for climb in (0.5, 0.75, 1.0, 1.0, 1.0)]] and decayed < 0.5
    )


def test_a_run_ends_with_its_steps_or_its_hours() -> None:
    by_time, by_steps = ScheduleConfig(hours=0.5), ScheduleConfig()
    assert [is_over(by_time, 9, 10, seconds) for seconds in (0.0, 1799.9, 1800.0)] == [False, False, True]
    assert is_over(by_time, 10, 10, 0.0)
    assert [is_over(by_steps, done, 10, 1e9) for done in (9, 10)] == [False, True]


def test_without_warmup_the_first_step_is_at_the_peak() -> None:
    assert lr_factor(ScheduleConfig(), 0, 10) == 1.0


def test_the_last_step_still_learns() -> None:
    assert 0 < lr_factor(ScheduleConfig(final_ratio=0.0), 9, 10) == pytest.approx(0.1)


def test_warmup_may_fill_the_run() -> None:
    rates = [lr_factor(ScheduleConfig(warmup_steps=4), step, 4) for step in range(4)]
    assert rates == [0.25, 0.5, 0.75, 1.0]
    assert all(map(math.isfinite, rates))


def test_all_problems_are_listed() -> None:
    with pytest.raises(
        ValueError, match=r"warmup_steps -1 .*; final_ratio 2 .*; power 0 .*; decay_share 0 .*; hours -1"
    ):
        ScheduleConfig(warmup_steps=-1, final_ratio=2, power=0, decay_share=0, hours=-1, kind="polynomial")


def test_keys_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"final_ratio has no effect .* constant.*; power .*; decay_share "):
        ScheduleConfig(kind="constant", final_ratio=0.1, power=2, decay_share=0.5)
