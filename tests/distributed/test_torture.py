"""A few rounds of ``make torture``."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.distributed.bench import REPOSITORY
from tests.terminal import MAKE

pytestmark = pytest.mark.distributed


def torture(kills: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MAKE, "torture", f"KILLS={kills}"], cwd=REPOSITORY, capture_output=True, text=True)


def test_ten_kills_leave_no_trace() -> None:
    """At other moments each time: a failure shows the seed, with which it begins alike."""
    done = torture(10)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == 10 and len(figures["by_kind"]) == 5
    assert figures["checkpoints_checked"] > 10 and figures["unusable_checkpoints"] == 0


def test_a_few_kills_are_too_few() -> None:
    done = torture(4)
    assert done.returncode and "--kills 4: 5 or more, a fifth of them on runs that keep their ranks" in done.stderr
