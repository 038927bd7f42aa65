"""What a service keeps of its answers is what would have been stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

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
