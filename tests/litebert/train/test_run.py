"""Run folders whose files were damaged, and what a continuation says of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from litebert.recipe import Recipe
from litebert.train.checkpoint import Retention, publish, published
from litebert.train.journal import errors
from litebert.train.run import LOCK, RECORD, ROLLBACKS, RunFolder, beginning, recorded, trains, write
from litebert.train.world import World

FINGERPRINTS = {"data": "d", "tokenizer": "t"}


class Alone:
    """One process: what it says is what all hear."""

    leads = True

    @property
    def control(self) -> Alone:
        return self

    def broadcast(self, number: int) -> int:
        return number


ALONE = cast(World, Alone())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """With two checkpoints."""
    folder = RunFolder(tmp_path, FINGERPRINTS, Recipe.from_dict({}))
    for step in (10, 20):
        info: dict[str, Any] = {**folder.record, "skipped": []}
        publish(tmp_path, step, {"weights": {"w": torch.zeros(2)}}, info, Retention(9))
    return folder


def test_a_run_goes_on_from_its_newest_sound_checkpoint(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = folder.resume(ALONE)
    assert found is not None and found.step == 20
    (found.folder / "part-0000.safetensors").write_bytes(b"")
    found = folder.resume(ALONE)
    assert found is not None and found.step == 10
    assert capsys.readouterr().out.startswith("skipping a damaged checkpoint: ")


def test_a_run_with_none_that_is_sound_is_not_begun_anew(folder: RunFolder) -> None:
    for checkpoint in published(folder.path):
        (checkpoint / "part-0000.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint to go on from .*remove .*checkpoints to begin anew") as caught:
        folder.resume(ALONE)
    assert "\n" not in str(caught.value)


def test_other_libraries_are_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    folder = RunFolder(tmp_path / "run", FINGERPRINTS, Recipe.from_dict({}))
    assert folder.changed_versions() == ""
    folder.prepare(tmp_path / "tokenizer")
    assert folder.changed_versions() == ""
    record = json.loads((folder.path / RECORD).read_text())
    record["versions"]["torch"] = "1.0"
    (folder.path / RECORD).write_text(json.dumps(record))
    told = folder.changed_versions()
    assert told.endswith(f"other libraries: torch was 1.0, now {torch.__version__}: not to the same bits")


def test_what_a_record_of_an_earlier_version_lacks_is_taken_and_told(folder: RunFolder) -> None:
    """Until a checkpoint has it."""
    (folder.path / "tokenizer").mkdir()
    folder.prepare(folder.path / "tokenizer")
    held = {**FINGERPRINTS, "answers.precision": "bf16"}
    later = RunFolder(folder.path, held, folder.recipe)
    assert later.unrecorded().endswith("did not record answers.precision bf16: taken for it")
    assert folder.unrecorded() == RunFolder(folder.path / "new", held, folder.recipe).unrecorded() == ""
    later.check()
    found = later.resume(ALONE)
    assert found is not None and found.step == 20
    publish(folder.path, 30, {"weights": {"w": torch.zeros(2)}}, {**later.record, "skipped": []}, Retention(9))
    assert later.resume(ALONE) is not None
    other = RunFolder(folder.path, {**FINGERPRINTS, "answers.precision": "fp32"}, folder.recipe)
    with pytest.raises(ValueError, match=r"step-00000030 is of another run: answers\.precision was bf16, now fp32"):
        other.resume(ALONE)
    with pytest.raises(ValueError, match="another run: teacher was None, now x"):
        RunFolder(folder.path, {**held, "teacher": "x"}, folder.recipe).check()


def test_a_run_whose_checkpoints_were_all_ruled_out_begins_anew(folder: RunFolder) -> None:
    (folder.path / ROLLBACKS).write_text(json.dumps([{"first": 4, "last": 6, "reason": "a spike"}]))
    assert folder.resume(ALONE) is None


@pytest.mark.parametrize(
    "content", ["{", "[1]", '[{"first": 1}]', '{"first": 1}', "null", '[{"first": "x", "last": 3}]']
)
def test_roll_backs_that_cannot_be_read_are_named(folder: RunFolder, content: str) -> None:
    (folder.path / ROLLBACKS).write_text(content)
    with pytest.raises(ValueError, match=r"rollbacks\.json: no list of roll-backs"):
        folder.resume(ALONE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_too_full_for_the_tokenizer_is_one_line(tmp_path: Path) -> None:
    tokenizer, disk = tmp_path / "tokenizer", tmp_path / "disk"
    for folder in (tokenizer, disk):
        folder.mkdir()
    (tokenizer / "tokenizer.json").write_bytes(bytes(200_000))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(OSError, match=r"^/.*tokenizer\.json: cannot be copied: .*No space left") as caught:
            RunFolder(disk, FINGERPRINTS, Recipe.from_dict({})).prepare(tokenizer)
        assert "\n" not in str(caught.value)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_lock_is_waited_for_as_long_as_is_said(tmp_path: Path) -> None:
    folder, others = (RunFolder(tmp_path / "run", FINGERPRINTS, Recipe.from_dict({})) for _ in range(2))
    with folder.held(), pytest.raises(ValueError, match="another training is at work"), others.held(patience=0.0):
        pass
    holding = folder.held()
    holding.__enter__()
    leaves = threading.Timer(0.5, holding.__exit__, (None, None, None))
    begun = time.monotonic()
    leaves.start()
    with others.held(patience=20):
        assert 0.4 < time.monotonic() - begun < 10
    leaves.join()


def test_whether_a_run_trains_is_seen(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", FINGERPRINTS, Recipe.from_dict({}))
    assert not trains(folder.path)
    with folder.held():
        assert trains(folder.path) and trains(folder.path)
    assert not trains(folder.path)


def test_who_looks_while_a_run_starts_does_not_keep_it_from_that(tmp_path: Path) -> None:
    """One look is put to sleep while it has the lock; others come without a pause, from another process."""
    folder = RunFolder(tmp_path, FINGERPRINTS, Recipe.from_dict({}))
    (tmp_path / LOCK).touch()

    def look() -> None:
        while True:
            trains(tmp_path)

    with (tmp_path / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        wakes = threading.Timer(0.5, fcntl.flock, (lock, fcntl.LOCK_UN))
        wakes.start()
        with folder.held():
            assert trains(tmp_path)
        wakes.join()
    looks = multiprocessing.get_context("fork").Process(target=look)
    looks.start()
    try:
        for _ in range(200):
            with folder.held():
                assert trains(tmp_path)
        assert looks.is_alive()
    finally:
        looks.kill()  # SIGTERM may mean something else to a fork of other tests
        looks.join()


@pytest.mark.parametrize("content", ["", "[]", "5", "{}", '{"fingerprints": {}}', '{"fingerprints": 1, "recipe": {}}'])
def test_a_record_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ValueError, match=r"run\.json: not the record of a run \(.*\): put it back") as caught:
        recorded(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="not the record of a run"):
        RunFolder(tmp_path, FINGERPRINTS, Recipe.from_dict({})).check()


def test_what_keeps_a_session_from_beginning_is_recorded_where_nobody_trains(tmp_path: Path) -> None:
    def fail(run: Path, rank: int) -> None:
        with contextlib.suppress(ValueError), beginning(run, rank, "gpu07"):
            raise ValueError(f"of {rank}")

    fail(tmp_path, 0)  # nobody's folder yet
    fail(tmp_path / "gone", 0)
    assert not list(tmp_path.iterdir())
    folder = RunFolder(tmp_path, FINGERPRINTS, Recipe.from_dict({}))
    with folder.held():
        fail(tmp_path, 0)
    assert not errors(tmp_path)
    fail(tmp_path, 0)
    fail(tmp_path, 1)
    assert [line.partition(" ")[2] for line in errors(tmp_path)] == [
        f"rank {rank} on gpu07: ValueError('of {rank}')" for rank in (0, 1)
    ]
    assert (tmp_path / "log.txt").read_text().splitlines() == errors(tmp_path)[:1]


def test_what_a_job_script_notes_in_a_new_folder_does_not_make_it_another_run(tmp_path: Path) -> None:
    (tmp_path / ".starts").write_text("2026-01-01T00:00:00Z job=1 nodes=1 step=0\n")
    RunFolder(tmp_path, FINGERPRINTS, Recipe.from_dict({})).check()
    (tmp_path / "letter.txt").write_text("to somebody")
    with pytest.raises(ValueError, match="holds something that is no run"):
        RunFolder(tmp_path, FINGERPRINTS, Recipe.from_dict({})).check()


def test_a_file_that_two_write_at_once_is_whole_and_nothing_beside_it_is_touched(tmp_path: Path) -> None:
    (tmp_path / "file.json.tmp").write_text("somebody's")
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda number: write(tmp_path / "file.json", f"{number}" * 100), range(8)))
    written = (tmp_path / "file.json").read_text()
    assert len(written) == 100 and len(set(written)) == 1
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write(tmp_path / "folder", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.json", "file.json.tmp", "folder"]
    assert (tmp_path / "file.json.tmp").read_text() == "somebody's"
