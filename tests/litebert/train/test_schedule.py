"""The learning rate against torch's own schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from litebert.train.schedule import ScheduleConfig, lr_factor

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
def test_rates_are_those_of_torch(kind: str) -> None:
    config = ScheduleConfig(warmup_steps=WARMUP, kind=kind, final_ratio=FINAL)  # type: ignore[arg-type]
    assert [lr_factor(config, step, STEPS) for step in range(STEPS)] == pytest.approx(reference(kind), rel=1e-9)


def test_without_warmup_the_first_step_is_at_the_peak() -> None:
    assert lr_factor(ScheduleConfig(), 0, 10) == 1.0


def test_the_last_step_still_learns() -> None:
    assert 0 < lr_factor(ScheduleConfig(final_ratio=0.0), 9, 10) == pytest.approx(0.1)


def test_warmup_may_fill_the_run() -> None:
    rates = [lr_factor(ScheduleConfig(warmup_steps=4), step, 4) for step in range(4)]
    assert rates == [0.25, 0.5, 0.75, 1.0]
    assert all(map(math.isfinite, rates))


def test_all_problems_are_listed() -> None:
    with pytest.raises(ValueError, match=r"warmup_steps -1 .*; final_ratio 2"):
        ScheduleConfig(warmup_steps=-1, final_ratio=2)
