"""One loss curve, whatever ZeRO stage and world size, and whichever optimizer: the one that plain torch computed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from tests.distributed.bench import Bench
from tests.distributed.plain import GOLDEN_OPTIMIZERS, GOLDEN_RUN, GOLDEN_STEPS, golden_losses, plain_training

pytestmark = pytest.mark.distributed

STAGES = (0, 1, 2, 3)
SHORT = 20
# fp32 rounds at 2^-24 of the value, and 100 steps carry on what each has rounded another way.
TOLERANCE = 1e-4
ANEW = "if losses are meant to change, write the golden files anew: python -m tests.distributed.plain"


def deviations(bench: Bench, world_size: int, kinds: Iterable[str], steps: int) -> dict[str, float]:
    """How far the first steps of each optimizer at each stage lie from the golden losses, at most."""
    cases = [(kind, stage, f"{kind}_zero{stage}_of{world_size}_{steps}") for kind in kinds for stage in STAGES]
    jobs = [
        {
            "arguments": bench.arguments(run, *GOLDEN_RUN, *GOLDEN_OPTIMIZERS[kind], stage=stage),
            "stop_after": steps if steps < GOLDEN_STEPS else None,
        }
        for kind, stage, run in cases
    ]
    bench.group(world_size, jobs, timeout=900)
    found = {}
    for kind, _, run in cases:
        losses = bench.losses(run)
        assert len(losses) == steps
        found[run] = float(np.abs(np.array(losses) - golden_losses(kind)[:steps]).max())
    return found


@pytest.mark.parametrize("steps", [SHORT, pytest.param(GOLDEN_STEPS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", GOLDEN_OPTIMIZERS)
def test_the_golden_losses_are_those_of_plain_torch(bench: Bench, kind: str, steps: int) -> None:
    losses, _ = plain_training(bench.arguments("plain_golden", *GOLDEN_RUN, *GOLDEN_OPTIMIZERS[kind]), steps)
    np.testing.assert_allclose(losses, golden_losses(kind)[:steps], rtol=0, atol=TOLERANCE, err_msg=ANEW)


def test_lamb_on_two_ranks_follows_the_golden_losses_at_every_stage(bench: Bench) -> None:
    found = deviations(bench, 2, ["lamb"], SHORT)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_so_they_do_to_the_end_at_every_world_size(bench: Bench, world_size: int) -> None:
    found = deviations(bench, world_size, GOLDEN_OPTIMIZERS, GOLDEN_STEPS)
    print("\n".join(f"{run}: {deviation:.1e}" for run, deviation in found.items()))
    assert max(found.values()) < TOLERANCE, found
