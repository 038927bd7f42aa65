"""What a service keeps of its answers is what would have been stored."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import launcher.teach
from litebert.distill.addresses import found
from litebert.distill.fleet import Fleet
from litebert.distill.message import Asked
from litebert.distill.serving import Recording
from litebert.distill.stored import SoftFolder
from litebert.distill.teaching import Teaching
from tests.litebert.distill.services import equal, lesson_of


def test_a_recording_is_what_would_have_been_stored(
    two_copies: Path, teacher_folder: Path, taught: dict[str, Path], tmp_path: Path
) -> None:
    """Byte for byte, of blocks in any order, by two processes, one of them started again; none is worked out twice."""
    lesson, soft, thought = lesson_of(two_copies, teacher_folder, "sampled"), tmp_path / "soft", list[Asked]()
    plain = lesson.answers

    def counted(asked: Asked) -> dict[str, npt.NDArray]:
        thought.append(asked)
        return plain(asked)

    lesson.answers = counted  # type: ignore[method-assign]
    asked = [
        Asked(lesson.taught.answered, split, block, copy)
        for split, copies in lesson.taught.copies.items()
        for copy in copies
        for block in range(len(lesson.splits[split].block_samples))
    ]
    np.random.default_rng(3).shuffle(asked)
    half = len(asked) // 2
    recordings = [Recording(lesson, soft) for _ in range(2)]
    for number, each in enumerate(asked[:half]):
        recordings[number % 2].answers(each)
    torn = next((soft / "unfinished/blocks").iterdir())
    torn.write_bytes(torn.read_bytes()[:-100])
    again = Recording(lesson, soft)
    told = [again.answers(each) for each in asked]
    assert len(thought) == len(asked) + 1
    content = {path.name: path.read_bytes() for path in taught["sampled"].iterdir()}
    assert {path.name: path.read_bytes() for path in soft.iterdir()} == content
    for each, columns in list(zip(asked, told, strict=True))[::7]:
        assert equal(columns, plain(each)) and equal(Recording(lesson, soft).answers(each), columns)
    assert len(thought) == len(asked) + 1


def test_what_nobody_asked_for_is_taught_afterwards(
    two_copies: Path, teacher_folder: Path, taught: dict[str, Path], tmp_path: Path
) -> None:
    lesson, soft = lesson_of(two_copies, teacher_folder, "topk"), tmp_path / "soft"
    recording = Recording(lesson, soft)
    for block in range(0, 20, 2):
        recording.answers(Asked(lesson.taught.answered, "train", block, 1))
    with pytest.raises(ValueError, match="no finished soft targets"):
        SoftFolder(soft)
    Teaching(lesson, soft).run()
    content = {path.name: path.read_bytes() for path in taught["topk"].iterdir()}
    assert {path.name: path.read_bytes() for path in soft.iterdir()} == content


def test_blocks_are_kept_once(two_copies: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """Those of a shard until its sidecar is there, from which they are then answered."""
    lesson, soft = lesson_of(two_copies, teacher_folder, "topk"), tmp_path / "soft"
    recording, split = Recording(lesson, soft), lesson.splits["train"]
    first, *others = split.shards
    asked = [Asked(lesson.taught.answered, "train", block, copy) for block in split.shards[first] for copy in (0, 1)]
    for number, each in enumerate(asked):
        assert len(list((soft / "unfinished/blocks").glob("*"))) == number
        recording.answers(each)
    assert (soft / first.replace(".tar", ".soft.tar")).is_file()
    assert list((soft / "unfinished/blocks").iterdir()) == []
    elsewhere = Asked(lesson.taught.answered, "train", split.shards[others[0]][0], 1)
    recording.answers(elsewhere)
    answers = lesson.answers
    lesson.answers = None  # type: ignore[assignment, method-assign]
    assert all(equal(Recording(lesson, soft).answers(each), answers(each)) for each in [*asked, elsewhere])
    lesson.answers = answers  # type: ignore[method-assign]
    assert len(list((soft / "unfinished/blocks").iterdir())) == 1
    sidecar = soft / first.replace(".tar", ".soft.tar")
    sidecar.write_bytes(sidecar.read_bytes().replace(b"NUMPY", b"DUMPY"))
    assert equal(recording.answers(asked[0]), answers(asked[0])) and recording.is_sound


def test_a_folder_that_fails_keeps_no_answers_back(
    two_copies: Path, teacher_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesson, soft = lesson_of(two_copies, teacher_folder, "topk"), tmp_path / "soft"
    recording = Recording(lesson, soft)
    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(4)]
    assert equal(recording.answers(asked[0]), lesson.answers(asked[0]))
    blocks = soft / "unfinished/blocks"
    shutil.rmtree(blocks)
    blocks.write_text("in the way")
    assert equal(recording.answers(asked[1]), lesson.answers(asked[1])) and not recording.is_sound
    blocks.unlink()
    assert all(equal(recording.answers(each), lesson.answers(each)) for each in asked)
    assert not blocks.exists()
    line = capsys.readouterr().err
    assert line.startswith(f"{soft}: recording stopped (") and str(blocks) in line and line.count("\n") == 1


def test_a_full_disk_ends_a_recording_and_no_student(two_copies: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """A process that may write no large file: it answers, says so once, and its exit code tells; then one that may."""
    fleet, soft = tmp_path / "fleet", tmp_path / "soft"
    given = ["--teacher", str(teacher_folder), "--data", str(two_copies), "--codec.kind", "topk", "--codec.k", "7"]
    serves = ["--seed", "5", "--serve", str(fleet), "--record", str(soft)]
    command = [sys.executable, launcher.teach.__file__, *given, *serves]
    own = lesson_of(two_copies, teacher_folder, "topk")
    asked = [Asked(own.taught.answered, "train", block, 0) for block in range(5)]
    for limited, recorded in (["bash", "-c", 'ulimit -f 8; exec "$@"', "limited"], 0), ([], len(asked)):
        process = subprocess.Popen([*limited, *command], stderr=subprocess.PIPE, text=True)
        try:
            while not found([str(fleet)], "", "").addresses:
                assert process.poll() is None
                time.sleep(0.05)
            alone = Fleet([str(fleet)], patience=30)
            assert all(equal(alone.answers(each, own.masked(each)), own.answers(each)) for each in asked)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
        lines = [line for line in said.splitlines() if "recording stopped" in line]
        assert (process.returncode, len(lines)) == ((0, 0) if recorded else (2, 1)), said
        assert recorded or "File too large" in lines[0]
        assert len(list((soft / "unfinished/blocks").glob("*.arrow"))) == recorded
