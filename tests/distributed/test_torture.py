"""A few rounds of ``make torture``."""

from __future__ import annotations

import random

import pytest

from tests.distributed.bench import Bench
from tests.distributed.torture import torture

pytestmark = pytest.mark.distributed


def test_ten_kills_leave_no_trace(bench: Bench) -> None:
    """At other moments each time: a failure shows the seed, with which ``make torture`` begins alike."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    figures = torture(bench, 10, seed)
    assert figures["kills"] == 10 and len(figures["by_kind"]) == 5
    assert figures["checkpoints_checked"] > 10 and figures["unusable_checkpoints"] == 0
