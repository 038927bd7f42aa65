"""What is said of a run, at moments of its life that are made of a real one's files; and of one that never began."""

from __future__ import annotations

import datetime
import fcntl
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.status import main, status
from litebert.recipe import Recipe
from litebert.train.journal import record
from tests.distributed.bench import REPOSITORY, Bench, environment, free_port

pytestmark = pytest.mark.distributed


START = "2026-01-01T01:00:00Z job=12 nodes=2 step=0"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A run of 20 steps, 12 of which are done, and one that a job wanted to start in vain."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    bench.run("refused").mkdir()
    (bench.run("refused") / ".starts").write_text(f"{START}\n")
    jobs: list[dict[str, Any]] = [
        {"arguments": bench.arguments("run", "--train.checkpoint_every", "8"), "stop_after": 12},
        {"arguments": bench.arguments("refused", "--data.micro_tokens", "100")},
    ]
    outcomes, log = bench.group(1, jobs)
    assert outcomes[0] == 85 and "data.micro_tokens 100 is less than" in str(outcomes[1]), log
    return bench


@pytest.fixture(scope="module")
def run(bench: Bench) -> Path:
    return bench.run("run")


def said(run: Path) -> dict[str, str]:
    return {line[:8].strip(): line[8:] for line in status(run)}


def line_of(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says where it ends with 2."""
    monkeypatch.setattr(sys, "argv", ["status.py", str(run)])
    assert main() == 2
    line = capsys.readouterr().err
    assert line.startswith("status: ") and line.count("\n") == 1, line
    return line


def test_a_run_that_was_stopped(run: Path) -> None:
    found = said(run)
    assert found["state"].startswith("not training (stopped or dead); last sign ")
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


@pytest.mark.parametrize(
    ("note", "state"),
    [
        ("job=12 queued", r"queued 0:03:1\d ago, job 12"),
        ("job=12 ended code=2", r"stopped: job 12 ended with exit code 2, 0:03:1\d ago"),
        (
            "job=12 nodes=2 step=140",
            r"not training \(job 12 started 0:03:1\d ago: it is about to train, was stopped, or is dead\)",
        ),
    ],
)
def test_what_a_job_does_that_does_not_train(tmp_path: Path, note: str, state: str) -> None:
    """First of a folder that has nothing else yet."""
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=192)
    (tmp_path / ".starts").write_text(f"{START}\n{when:%FT%TZ} {note}\n")
    found = said(tmp_path)
    starts = 1 + note.count("nodes")
    assert re.fullmatch(state, found.pop("state")) and found.pop("starts").startswith(f"{starts}, the last 2026-")
    assert not found
    (tmp_path / "recipe.yaml").write_text(Recipe.from_dict({"train": {"steps": 3000}}).to_yaml())
    with (tmp_path / ".lock").open("w") as lock:
        assert re.fullmatch(rf"{state}; last sign 0:00:\d\d ago", said(tmp_path)["state"])
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert re.fullmatch(r"training; last sign 0:00:\d\d ago", said(tmp_path)["state"])
    assert said(tmp_path)["step"] == "0 of 3,000, newest checkpoint 0"
    (tmp_path / "done.json").write_text("{}")
    assert said(tmp_path)["state"] == "done"


def test_a_file_of_notes_without_one_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".starts").touch()
    assert status(tmp_path) == ["state   not training (stopped or dead)"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (".starts", b"hello\n", ".starts: not what slurm/job.sh writes"),
        ("recipe.yaml", b"", "recipe.yaml: not the recipe of a run"),
        ("recipe.yaml", b"[1, 2]", "recipe.yaml: not the recipe of a run"),
        ("recipe.yaml", b"5", "recipe.yaml: not the recipe of a run"),
        ("recipe.yaml", b"train: 5", "recipe.yaml: not the recipe of a run"),
        ("recipe.yaml", b"train: {steps: [", "recipe.yaml: not the recipe of a run"),
        ("recipe.yaml", b"\xff\xfe\xfd", "recipe.yaml: not the recipe of a run"),
        ("rollbacks.json", b"[1]", "rollbacks.json: no list of roll-backs"),
        ("rollbacks.json", b"", "rollbacks.json: no list of roll-backs"),
        ("metrics.jsonl", b"\x80\n", "metrics.jsonl: not the metrics of a run"),
        ("metrics.jsonl", b"5\n", "metrics.jsonl: not the metrics of a run"),
        ("errors/rank-00003.log", b"\x80\n", "rank-00003.log: not the errors of a rank"),
    ],
)
def test_what_is_damaged_is_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    content: bytes,
    words: str,
) -> None:
    (tmp_path / "recipe.yaml").write_text(Recipe.from_dict({}).to_yaml())
    (tmp_path / "errors").mkdir()
    assert status(tmp_path)[0] == "state   not training (stopped or dead)", "and there is no lock"
    (tmp_path / file).write_bytes(content)
    assert f"{tmp_path}/{file}"[:-1] in (line := line_of(tmp_path, monkeypatch, capsys)) and words in line


def test_metrics_without_a_speed_are_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(Recipe.from_dict({}).to_yaml())
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "loss": 1.5}\n')
    found = said(tmp_path)
    assert found["losses"] == "loss 1.5000" and "speed" not in found


def test_how_the_ranks_talk_begins_the_log(run: Path) -> None:
    first, *others = (run / "log.txt").read_text().splitlines()
    assert first.startswith("ranks  1; rank 0 at 127.0.0.1:") and others[0].startswith("model  ")


def test_what_keeps_a_run_from_beginning_is_told(bench: Bench) -> None:
    """The recipe's fault, and then a rank's that does not come."""
    run = bench.run("refused")
    (line,) = [line for line in status(run) if line.startswith("errors")]
    assert "rank 0: ValueError(" in line and "data.micro_tokens 100 is less than" in line
    command = [sys.executable, str(REPOSITORY / "launcher" / "pretrain.py"), *bench.arguments("refused")]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "RENDEZVOUS_SECONDS": 1}
    given = environment(**address, RANK=0, WORLD_SIZE=2)
    for check in ([], ["--check"]):
        assert subprocess.run([*command, *check], env=given, capture_output=True, timeout=400).returncode
    first, second = [line for line in status(run) if line.startswith("errors")]
    assert first == line and "rank 0: Absent('of 2 ranks 1 did not come to 127.0.0.1:" in second
    assert [f"errors  {line}" for line in (run / "log.txt").read_text().splitlines()] == [first, second]
