"""A few rounds of tests/distributed/service_torture.py; and what a student says that is left alone."""

from __future__ import annotations

import random

import pytest

from tests.distributed.bench import Bench
from tests.distributed.service_torture import torture

pytestmark = pytest.mark.distributed

DRIFT = 1e-5  # of losses from those of a live teacher: its hidden states are rounded to 16 bits on the way


def test_five_kills_leave_no_trace(bench: Bench) -> None:
    """At other moments each time: a failure shows the seed."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    figures = torture(bench, 5, seed)
    assert figures["kills"] == 5 and len(figures["by_kind"]) == 4
    assert 0 < figures["losses_from_live_by"]["most"] < DRIFT


def test_a_student_without_a_teacher_gives_up(bench: Bench) -> None:
    """After its patience, and says what it waited for."""
    nowhere = bench.folder / "nobody"
    given = bench.arguments(
        "left_alone", "--distill.patience", "1", "--distill.start", "random", "--objective.sop", "0"
    )
    (outcome,), log = bench.group(1, [{"arguments": [*given, "--fleet", str(nowhere)]}])
    assert f"no teacher at {nowhere}: start one with launcher/teach.py --serve" in str(outcome)
    assert not bench.run("left_alone").exists() and "Traceback" not in log
