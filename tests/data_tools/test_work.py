"""What stands in a work folder under its own name is whole."""

import dataclasses
from pathlib import Path

import pytest

from data_tools.work import Work, locked, remove_stale, work_folder


@dataclasses.dataclass
class Writing:
    """Writes two files, and counts how often; breaks between them if it is told to."""

    breaks: bool = False
    runs: int = 0
    name: str = "writing"

    def items(self) -> list[str]:
        return ["a", "b"]

    def run(self, item: str, folder: Path) -> None:
        self.runs += 1
        (folder / "first").write_text(item)
        if self.breaks:
            raise OSError("no space left")
        (folder / "second").write_text(item)


def test_an_item_that_breaks_leaves_nothing_and_a_finished_one_is_not_done_again(tmp_path):
    work = Work(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        work.finish(Writing(breaks=True), "a")
    assert work.finished("writing") == [] and not any((tmp_path / "writing").iterdir())
    stage = Writing()
    work.finish(stage, "a")
    work.finish(stage, "a")
    assert stage.runs == 1 and work.finished("writing") == ["a"]
    assert sorted(path.name for path in work.path("writing", "a").iterdir()) == ["first", "second"]


def test_of_two_that_do_an_item_at_once_the_first_ones_results_stand(tmp_path):
    work = Work(tmp_path)
    with work.publishing("writing", "a") as slow:
        (slow / "first").write_text("slow")
        with work.publishing("writing", "a") as fast:
            (fast / "first").write_text("fast")
    assert (work.path("writing", "a") / "first").read_text() == "fast"
    assert [path.name for path in (tmp_path / "writing").iterdir()] == ["a"]


def test_what_a_killed_process_left_does_not_count_and_is_cleared(tmp_path):
    work = Work(tmp_path)
    work.finish(Writing(), "a")
    (tmp_path / "writing" / ".b.0123").mkdir()
    assert work.finished("writing") == ["a"]
    work.clear_unfinished()
    assert [path.name for path in (tmp_path / "writing").iterdir()] == ["a"]


def test_work_folders_of_the_same_output_are_stale_unless_another_is_at_work(tmp_path):
    output = tmp_path / "out"
    mine, held, stale = (work_folder(output, digit * 64) for digit in "012")
    other = work_folder(tmp_path / "out.b", "3" * 64)
    for folder in (mine, stale, other):
        folder.mkdir()
    with locked(held):
        with pytest.raises(ValueError, match=f"another build is at work in {held}; wait for it"):
            remove_stale(output, but=mine)
        assert {mine, held, other} <= set(tmp_path.iterdir())
        with pytest.raises(ValueError, match="another build is at work"), locked(held):
            pass
    remove_stale(output)
    assert list(tmp_path.iterdir()) == [other]
