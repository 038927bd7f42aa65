"""What a micro-batch costs beside its operations, told from steps of a known cost."""

from __future__ import annotations

import random

import pytest

from litebert.plan.calibration import Passes, separated

RATE = 3e12


def steps(speed: float, cost: float, finer: int = 4, noise: float = 0.0) -> list[tuple[Passes, Passes]]:
    """Eight steps, each in two and in finer x two micro-batches."""
    chance = random.Random(1)

    def passes(operations: float, micro: int) -> Passes:
        return Passes(operations, micro, (operations / speed + micro * cost) * (1 + noise * chance.uniform(-1, 1)))

    sizes = [chance.uniform(0.9, 1.1) * 1e12 for _ in range(8)]
    return [(passes(size, 2), passes(size, 2 * finer)) for size in sizes]


@pytest.mark.parametrize("cost", [0.0, 0.01, 0.3])
def test_an_operation_and_a_micro_batch_are_told_apart(cost: float) -> None:
    assert separated(steps(1e12, cost), RATE) == pytest.approx((1e12, cost))


def test_a_disturbed_step_or_two_change_little() -> None:
    disturbed = steps(1e12, 0.1, noise=0.03)
    for number in (2, 5):
        disturbed[number] = (disturbed[number][0], Passes(1e12, 8, 30.0))
    speed, cost = separated(disturbed, RATE)
    assert speed == pytest.approx(1e12, rel=0.05) and cost == pytest.approx(0.1, rel=0.2)


def test_no_cost_is_made_up() -> None:
    """Neither where steps were not cut any finer, nor where they were faster for it."""
    for measured in (steps(1e12, 0.1, finer=1), [(a, Passes(b.operations, b.micro, 0.5)) for a, b in steps(1e12, 0)]):
        speed, cost = separated(measured, RATE)
        assert cost == 0 and speed > 0


def test_operations_are_never_faster_than_the_matrix_rate() -> None:
    """Passes that wait for nothing but launches leave an operation the rate that was measured by itself."""
    launched = [(a, Passes(b.operations, b.micro, 4.2 * a.seconds)) for a, b in steps(RATE, 5.0)]
    speed, cost = separated(launched, RATE)
    assert 0 < speed <= 1.1 * RATE and cost > 1
