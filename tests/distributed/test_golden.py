"""One loss curve, whatever ZeRO stage and world size, and whichever optimizer: the one that plain torch computed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.bench import REPOSITORY, Bench
from tests.distributed.plain import GOLDEN_OPTIMIZERS, GOLDEN_RUN, GOLDEN_STEPS, golden_losses, plain_training

pytestmark = pytest.mark.distributed

SHORT = 20
# fp32 rounds at 2.4e-7 where the losses are, and 100 steps carry on what each has rounded another way.
TOLERANCE = 1e-5
ANEW = "if losses are meant to change, write the golden files anew: python -m tests.distributed.plain"


def stages(bench: Bench) -> list[Path]:
    return [bench.folder / f"zero{stage}.json" for stage in range(4)]


def deviations(
    bench: Bench, world_size: int, ds_configs: list[Path], kinds: Iterable[str], steps: int, *overrides: str
) -> dict[str, float]:
    """How far the first steps of each optimizer with each engine lie from the golden losses, at most."""
    named = "".join(overrides).replace("--", "_")
    cases = {f"{kind}_{path.stem}_of{world_size}_{steps}{named}": (kind, path) for kind in kinds for path in ds_configs}
    jobs = []
    for run, (kind, path) in cases.items():
        optimizer = (*GOLDEN_OPTIMIZERS[kind], "--train.ds_config", str(path))
        arguments = bench.arguments(run, *GOLDEN_RUN, *optimizer, *overrides)
        jobs.append({"arguments": arguments, "stop_after": steps if steps < GOLDEN_STEPS else None, "rubbish": True})
    bench.group(world_size, jobs, timeout=900)
    found = {}
    for run, (kind, _) in cases.items():
        losses = bench.losses(run)
        assert len(losses) == steps
        found[run] = float(np.abs(np.array(losses) - golden_losses(kind)[:steps]).max())
    print("\n".join(f"{run}: {deviation:.1e}" for run, deviation in found.items()))
    return found


@pytest.mark.parametrize("steps", [SHORT, pytest.param(GOLDEN_STEPS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", GOLDEN_OPTIMIZERS)
def test_the_golden_losses_are_those_of_plain_torch(bench: Bench, kind: str, steps: int) -> None:
    losses, _ = plain_training(bench.arguments("plain_golden", *GOLDEN_RUN, *GOLDEN_OPTIMIZERS[kind]), steps)
    np.testing.assert_allclose(losses, golden_losses(kind)[:steps], rtol=0, atol=TOLERANCE, err_msg=ANEW)


def test_lamb_on_two_ranks_follows_them_at_every_stage(bench: Bench) -> None:
    found = deviations(bench, 2, stages(bench), ["lamb"], SHORT)
    assert max(found.values()) < TOLERANCE


def test_recomputed_layers_follow_them_at_every_stage(bench: Bench) -> None:
    found = deviations(bench, 2, stages(bench), ["adamw"], SHORT, "--train.recompute", "true")
    assert max(found.values()) < TOLERANCE


def test_offloaded_optimizers_take_the_same_steps(bench: Bench) -> None:
    offloading = [REPOSITORY / "ds_configs" / f"zero{stage}_offload.json" for stage in (2, 3)]
    found = deviations(bench, 2, offloading, GOLDEN_OPTIMIZERS, 3)
    assert max(found.values()) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_stage_and_world_size_follows_them_to_the_end(bench: Bench, world_size: int) -> None:
    found = deviations(bench, world_size, stages(bench), GOLDEN_OPTIMIZERS, GOLDEN_STEPS)
    assert max(found.values()) < TOLERANCE
