"""Ranks that wait for others that do not come, as processes that srun would start on nodes of made-up names."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.distributed.bench import REPOSITORY, Bench, environment, free_port

pytestmark = pytest.mark.distributed

PRETRAIN = str(REPOSITORY / "launcher" / "pretrain.py")
COUNTS = "2,1,1"
LIMIT = 12.0


def start(bench: Bench, rank: int, **changes: object) -> subprocess.Popen[str]:
    """A rank of a step of four on three nodes."""
    step = {
        "SLURM_STEP_NUM_TASKS": 4,
        "SLURM_STEP_NODELIST": "gpu[1-3]",
        "SLURM_STEP_TASKS_PER_NODE": COUNTS,
        "SLURM_NODEID": max(0, rank - 1),
        "SLURM_PROCID": rank,
        "RENDEZVOUS_SECONDS": LIMIT,
    }
    return subprocess.Popen(
        [sys.executable, PRETRAIN, *bench.arguments("absent")],
        env=environment(**step | changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, and what was said that is an error of ours or a traceback."""
    _, errors = process.communicate(timeout=LIMIT * 10)
    lines = errors.splitlines()
    return process.returncode, "\n".join(line for line in lines if line.startswith(("pretrain:", "Traceback")))


def test_rank_0_names_the_nodes_that_did_not_come_and_the_others_are_silent(bench: Bench) -> None:
    port = free_port()
    ranks = [start(bench, rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=port) for rank in (0, 2)]
    (first, said), (second, silence) = map(ended, ranks)
    assert (first, second, silence) == (1, 1, "")
    assert said.startswith(
        f"pretrain: gpu1 (1 of its 2 ranks), gpu3 (1 of its 1 ranks) did not come to 127.0.0.1:{port} within 12 s"
    )
    assert not bench.run("absent").exists()


def test_a_rank_that_finds_no_rank_0_says_where_it_looked(bench: Bench) -> None:
    begun = time.monotonic()
    code, said = ended(start(bench, 3, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port(), RENDEZVOUS_SECONDS=1))
    assert code == 1 and time.monotonic() - begun < 60
    assert said.startswith("pretrain: rank 3 on gpu3 cannot reach rank 0 at 127.0.0.1:")


def test_a_launcher_that_names_no_meeting_point_is_told(bench: Bench) -> None:
    code, said = ended(start(bench, 0, RANK=0, WORLD_SIZE=2))
    assert code == 2 and "not MASTER_ADDR and MASTER_PORT" in said
