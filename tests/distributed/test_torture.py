"""A few rounds of ``make torture``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.distributed.bench import REPOSITORY, environment

pytestmark = pytest.mark.distributed


def test_ten_kills_leave_no_trace() -> None:
    command = [sys.executable, "-m", "tests.distributed.torture", "--kills", "10"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == 10 and len(figures["by_kind"]) == 5
