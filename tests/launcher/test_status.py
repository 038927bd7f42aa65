"""What is said of a run, at moments of its life that are made of a real one's files."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from launcher.status import status
from litebert.train.journal import record
from tests.distributed.bench import Bench

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 20 steps, 12 of which are done."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    job = {"arguments": bench.arguments("run", "--train.checkpoint_every", "8"), "stop_after": 12}
    outcomes, log = bench.group(1, [job])
    assert outcomes == [85], log
    return bench.run("run")


def said(run: Path) -> dict[str, str]:
    return {line[:8].strip(): line[8:] for line in status(run)}


def test_a_run_that_was_stopped(run: Path) -> None:
    found = said(run)
    assert found["state"].startswith("not training")
    assert found["step"] == "12 of 20, newest checkpoint 12"
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"loss {last['loss']:.4f}" in found["losses"] and f"mlm {last['mlm']:.4f}" in found["losses"]
    assert found["speed"].endswith(" tokens/s") and "between the last two checkpoints" in found["to go"]
    assert "starts" not in found and "errors" not in found


def test_a_run_that_trains_and_writes_a_line_while_it_is_looked_at(run: Path) -> None:
    metrics, whole = run / "metrics.jsonl", (run / "metrics.jsonl").read_text()
    metrics.write_text(whole + '{"step": 13, "lo')
    try:
        with (run / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = said(run)
    finally:
        metrics.write_text(whole)
    assert found["state"].startswith("training; last sign 0:00:0") and found["step"].startswith("12 of 20")


def test_starts_and_roll_backs_are_told(run: Path) -> None:
    notes = {
        ".starts": "2026-01-01T00:00:00Z job=1 nodes=2 step=0\n2026-01-01T01:00:00Z job=1 nodes=1 step=8\n",
        "rollbacks.json": json.dumps([{"first": 4, "last": 6, "reason": "a spike"}]),
    }
    for name, text in notes.items():
        (run / name).write_text(text)
    found = said(run)
    assert found["starts"] == "2, the last 2026-01-01T01:00:00Z job=1 nodes=1 step=8"
    assert found["errors"] == "went back, and left out steps 4-6 with a spike"
    for name in notes:
        (run / name).unlink()


def test_the_last_errors_are_told_and_a_run_that_is_to_be_longer(run: Path) -> None:
    for rank in range(4):
        record(run, rank, "gpu07", f"ValueError({rank})", "Traceback")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("steps: 20\n", "steps: 30\n"))
    lines = status(run)
    assert [line.split(" rank ")[1] for line in lines if line.startswith("errors")] == [
        f"{rank} on gpu07: ValueError({rank})" for rank in (1, 2, 3)
    ]
    assert "step    12 of 30, newest checkpoint 12" in lines


def test_a_run_that_is_done_and_a_folder_that_is_none(run: Path, tmp_path: Path) -> None:
    (run / "done.json").write_text('{"step": 20}')
    assert said(run)["state"] == "done"
    with pytest.raises(ValueError, match="not a run that has begun"):
        status(tmp_path)
