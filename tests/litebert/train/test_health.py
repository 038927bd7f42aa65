"""Which losses are called bad, and when that is too much."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from litebert.train.health import Health, HealthConfig, RollBack


def falling(steps: int) -> list[float]:
    """Losses as they are: falling, with noise."""
    rng = np.random.default_rng(1)
    return (4 + 6 * np.exp(-np.arange(steps) / 100) + 0.1 * rng.standard_normal(steps)).tolist()


def judged(config: HealthConfig, losses: list[float]) -> RollBack | None:
    health = Health(config, None)
    for step, loss in enumerate(losses):
        try:
            health.judge(step, loss)
        except RollBack as back:
            return back
    return None


def test_falling_losses_are_good() -> None:
    assert judged(HealthConfig(), falling(3000)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 40.0])
def test_several_bad_ones_in_a_row_are_too_much(bad: float) -> None:
    losses = falling(100)
    losses[50:54] = [bad] * 4
    back = judged(HealthConfig(), losses)
    assert back is not None and (back.first, back.last) == (50, 52)
    assert judged(HealthConfig(max_bad_steps=5), losses) is None
    assert judged(HealthConfig(max_bad_steps=0), losses) is None


def test_bad_ones_that_are_not_in_a_row_are_not() -> None:
    losses = falling(100)
    losses[50], losses[51], losses[53] = math.nan, 40.0, math.nan
    assert judged(HealthConfig(), losses) is None


def test_spikes_may_be_let_be() -> None:
    losses = falling(100)
    losses[50:54] = [40.0] * 4
    assert judged(HealthConfig(spike_deviations=0), losses) is None


def test_the_first_losses_are_no_spikes_of_nothing() -> None:
    assert judged(HealthConfig(), [4.0, 4.0, 4.0, 9.0, 9.0, 9.0, 9.0]) is None


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been() -> None:
    losses = falling(100)
    losses[48:50] = [math.nan, 40.0]
    whole = Health(HealthConfig(), None)
    for step, loss in enumerate(losses):
        whole.judge(step, loss)
    first = Health(HealthConfig(), None)
    for step, loss in enumerate(losses[:50]):
        first.judge(step, loss)
    second = Health(HealthConfig(), json.loads(json.dumps(first.begun())))
    for step, loss in enumerate(losses[50:], start=50):
        second.judge(step, loss)
    assert second.begun() == whole.begun()
    with pytest.raises(RollBack):
        Health(HealthConfig(), first.begun()).judge(50, math.nan)


def test_a_model_that_is_stuck_at_the_unigram_loss_is_told_of() -> None:
    health = Health(HealthConfig(plateau_steps=500, plateau_nats=0.2), None)
    assert not health.plateau(499, 6.95, 7.05)  # too early to tell
    assert not health.plateau(500, 6.8, 7.05)  # it learns
    assert "after 500 steps the loss of masked words, 6.95, is still" in health.plateau(500, 6.95, 7.05)
    assert not health.plateau(501, 6.95, 7.05)  # said already
    assert not Health(HealthConfig(plateau_steps=0), None).plateau(5000, 7.05, 7.05)


def test_all_problems_are_listed() -> None:
    with pytest.raises(ValueError, match=r"max_bad_steps -1 is negative; plateau_nats -1 .*; spike_window 3"):
        HealthConfig(max_bad_steps=-1, plateau_nats=-1, spike_window=3)
