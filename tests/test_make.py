"""The make commands of the README, each typed; ``make torture`` in tests/distributed/test_torture.py."""

from __future__ import annotations

import itertools
import json
import lzma
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.terminal import MAKE, started

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "shared" / "corpus" / "sample.jsonl.xz"
NEEDED = ("data_tools", "ds_configs", "launcher", "litebert")
PATIENCE = 300.0


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Of the project, for what it writes."""
    for name in NEEDED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def test_these_are_all_there_are() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`|\" )make (\w+)", page, re.MULTILINE)) == {"demo", "test", "torture"}


def test_some_of_the_tests_run() -> None:
    command = [*MAKE, "test", "ARGS=tests/test_readme.py -k headings"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_demo_trains_on_a_text_of_ones_own_until_ctrl_c(copy: Path) -> None:
    if not SAMPLE.exists():
        pytest.skip(f"no {SAMPLE} here")
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as file:
        documents = list(itertools.islice(file, 400))
    (copy / "books").mkdir()
    for path, lines in ((copy / "news.jsonl.xz", documents[:200]), (copy / "books" / "some.jsonl.xz", documents[200:])):
        with lzma.open(path, "wt", encoding="utf-8") as kept:
            kept.writelines(lines)
    with (copy / "said").open("w") as said:
        text = os.environ | {"PYTHONPATH": str(copy), "CORPUS": "news.jsonl.xz books/"}
        demo = started([*MAKE, "demo"], cwd=copy, env=text, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (
            losses := [path for path in copy.glob("runs/demo-news-*/train/metrics.jsonl") if path.stat().st_size]
        ):
            assert demo.poll() is None and time.monotonic() < deadline, (copy / "said").read_text()
            time.sleep(0.2)
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(PATIENCE) != 0
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
    assert "the same `make demo` again goes on from here" in (copy / "said").read_text()
    assert "mlm" in json.loads(losses[0].read_text().splitlines()[0])
    assert list(losses[0].parent.glob("checkpoints/step-*"))
