"""Runs on several ranks, whole and interrupted, on sound data and damaged, held to the plan by their ledgers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.shards.manifest import Manifest
from launcher.verify import verify
from litebert.train.ledger import FILE, RECORD, Kind, read
from tests.distributed.bench import REPOSITORY, STEPS, Bench, environment
from tests.server import served

pytestmark = pytest.mark.distributed

QUARANTINE = ("--data.corrupt", "quarantine", "--model.dropout", "0")
MIXED = ("--data.mixture", "{0: [1, 0], 8: [1, 3]}", "--model.dropout", "0")


@pytest.fixture(scope="module")
def damaged(bench: Bench) -> Path:
    """The shards with a bit of one block flipped."""
    folder = bench.folder / "damaged_shards"
    shutil.copytree(bench.shards, folder)
    shard = Manifest.load(folder).splits["train"].shards[0]
    data = bytearray((folder / shard.name).read_bytes())
    data[shard.offsets[1] + 700] ^= 1
    (folder / shard.name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def runs(bench: Bench, damaged: Path) -> list[int | str]:
    """The same runs on one rank and on three; one is interrupted on three and goes on on one."""
    both = ("--data", str(bench.shards), str(damaged))
    with served(bench.shards, bad=lambda number: "503" if number % 5 == 0 else "") as server:
        far = ("--data", server.url, "--data.cache", str(bench.folder / "cache"))
        jobs: list[dict[str, Any]] = [
            {"arguments": bench.arguments("quarantine3", *QUARANTINE, "--data", str(damaged))},
            {"arguments": bench.arguments("moved", *QUARANTINE, "--data", str(damaged)), "stop_after": 7},
            {"arguments": bench.arguments("mixed3", *MIXED, *both, *QUARANTINE[:2])},
            {"arguments": bench.arguments("far3", "--model.dropout", "0", *far)},
        ]
        outcomes = bench.group(3, jobs)[0]
    jobs = [
        {"arguments": bench.arguments("quarantine1", *QUARANTINE, "--data", str(damaged))},
        {"arguments": bench.arguments("moved", *QUARANTINE, "--data", str(damaged))},
        {"arguments": bench.arguments("mixed1", *MIXED, *both, *QUARANTINE[:2])},
        {"arguments": bench.arguments("near1", "--model.dropout", "0")},
        {"arguments": bench.arguments("stopped", "--data", str(damaged))},
    ]
    return outcomes + bench.group(1, jobs)[0]


def test_runs_end_as_they_should(runs: list[int | str], damaged: Path) -> None:
    assert runs[:-1] == [0, 85, 0, 0, 0, 0, 0, 0]
    assert f"{damaged}/train-00000.tar, block 00000-00001 at byte" in str(runs[-1])
    assert str(runs[-1]).endswith("build the shards again, or train without it: --data.corrupt quarantine")


@pytest.mark.parametrize(
    ("one", "other"),
    [("quarantine1", "quarantine3"), ("mixed1", "mixed3"), ("moved", "quarantine1"), ("near1", "far3")],
)
def test_another_number_of_ranks_changes_nothing(bench: Bench, runs: Any, one: str, other: str) -> None:
    np.testing.assert_allclose(bench.losses(one), bench.losses(other), rtol=0, atol=1e-5)
    assert (bench.run(one) / FILE).read_bytes() == (bench.run(other) / FILE).read_bytes()


def test_what_was_left_out_is_listed_and_the_rest_proved(bench: Bench, runs: Any, damaged: Path) -> None:
    records, _ = read(bench.run("moved") / FILE)
    left_out = records[records["kind"] == Kind.QUARANTINED]["value"].tolist()
    assert 0 < len(left_out) == len(set(left_out))
    lines, sound = verify(bench.run("moved"), [])
    assert sound and len(lines) == 2
    assert f"in quarantine: {damaged}/train-00000.tar, block 00000-00001 at byte" in lines[0]
    assert f": {len(left_out)} samples of steps" in lines[0]
    assert f"as planned: {STEPS} steps of {STEPS * 16 - len(left_out)} samples" in lines[1]


def test_a_mixture_is_proved(bench: Bench, runs: Any, damaged: Path) -> None:
    lines, sound = verify(bench.run("mixed3"), [])
    assert sound and "as planned" in lines[-1] and f"epochs of {damaged}" in lines[-1]


def test_a_ledger_that_is_not_as_planned_is_one_line_and_exit_code_1(bench: Bench, runs: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(bench.run("near1"), run)
    records = read(run / FILE)[0].copy()
    records["value"][5] = records["value"][3]
    (run / FILE).write_bytes(records.tobytes() + b"torn")
    command = [sys.executable, str(REPOSITORY / "launcher" / "verify.py"), str(run)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and not done.stderr
    assert "4 bytes of the ledger are left aside: no checkpoint counts them" in lines[0]
    assert "NOT as planned: step 5 (epoch 0 of" in lines[1] and lines[1].endswith("they are those of step 3")


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (10 * RECORD.itemsize, "10 records are left of the 20"),
        (0, "0 records are left"),
        (19 * RECORD.itemsize + 5, "19 records"),
    ],
)
def test_a_ledger_that_was_cut_is_not_as_planned(bench: Bench, runs: Any, tmp_path: Path, kept: int, said: str) -> None:
    run = shutil.copytree(bench.run("near1"), tmp_path / "run")
    (run / FILE).write_bytes((run / FILE).read_bytes()[:kept])
    lines, sound = verify(run, [])
    assert not sound and "NOT as planned: the ledger is cut off" in lines[-1] and said in lines[-1]


@pytest.mark.parametrize(
    ("kind", "said"),
    [(Kind.SKIPPED, "no roll-back ruled its batch out"), (7, "a record of kind 7"), (3, "SHA-256 differs")],
)
def test_kinds_are_proved_too(bench: Bench, runs: Any, tmp_path: Path, kind: int, said: str) -> None:
    run = shutil.copytree(bench.run("near1"), tmp_path / "run")
    records = read(run / FILE)[0].copy()
    records["kind"] = kind
    (run / FILE).write_bytes(records.tobytes())
    lines, sound = verify(run, [])
    assert not sound and said in lines[-1]


def test_what_a_killed_run_leaves_behind_its_checkpoint_is_said_and_sound(
    bench: Bench, runs: Any, tmp_path: Path
) -> None:
    run = shutil.copytree(bench.run("near1"), tmp_path / "run")
    with (run / FILE).open("ab") as file:
        file.write(bytes(RECORD.itemsize + 3))
    lines, sound = verify(run, [])
    assert sound and "27 bytes of the ledger are left aside" in lines[0] and "as planned: 20 steps" in lines[1]


def test_without_a_checkpoint_nothing_is_proved(bench: Bench, runs: Any, tmp_path: Path) -> None:
    run = shutil.copytree(bench.run("near1"), tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="no checkpoint counts any of its steps"):
        verify(run, [])


def test_data_may_have_moved_but_not_changed(bench: Bench, runs: Any, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(bench.shards, moved)
    assert verify(bench.run("far3"), [str(moved)])[1]
    with pytest.raises(ValueError, match="was trained on other data than"):
        verify(bench.run("mixed3"), [str(moved)])
    with pytest.raises(ValueError, match="not a run with a ledger"):
        verify(tmp_path, [])
