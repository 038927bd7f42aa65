"""Runs in pictures: which of them, and that their names are there, whole, apart and in the picture."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from litebert.report import marks as module
from litebert.report import plots, remarks
from litebert.report.figures import measured
from litebert.report.marks import LONGEST, MOST, Mark, families, marks, written
from litebert.report.results import Measured
from litebert.report.runs import Run, runs_of
from tests.litebert.report.made_up import heldout_figures, made_run, report_of, saved, task_figures

CHINESE = len(families()) > 1


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    (run,) = runs_of([made_run(shards, tmp_path_factory.mktemp("runs") / "run")])
    return run


@pytest.fixture
def latin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Chinese fonts."""
    monkeypatch.setattr(module, "characters", lambda: frozenset(map(chr, range(32, 127))))


def named(run: Run, names: list[str]) -> list[Run]:
    return [dataclasses.replace(run, name=name) for name in names]


@pytest.mark.skipif(not CHINESE, reason="no Chinese font")
def test_chinese_names_are_written_where_there_is_a_font(recwarn: pytest.WarningsRecorder, run: Run) -> None:
    (mark,) = marks(named(run, ["学生"]), {"学生": Measured()}, [])
    assert mark.label == "学生" and written("新闻分类", "") == "新闻分类"
    plots.png(plots.curves([mark]))
    assert not [warning for warning in recwarn if "missing from font" in str(warning.message)]
    assert written("\U0001f600" * 2, "row 1") == "row 1" or "\U0001f600" in module.characters()


@pytest.mark.usefixtures("latin")
def test_what_cannot_be_written_has_a_name_of_its_own(shards: Path, tmp_path: Path) -> None:
    paths = [made_run(shards, tmp_path / name) for name in ("学生", "老师")]
    runs = runs_of(paths)
    contents = [task_figures(run, task) for run in runs for task in ("新闻分类", "情感分析")]
    files = [saved(tmp_path / f"{number}.json", content) for number, content in enumerate(contents)]
    report = report_of(paths, files)
    titles = [axes.get_title() for axes in report.figures()["size"].axes]
    assert titles == ["task 1: accuracy", "task 2: accuracy"]
    (said,) = remarks.of_pictures(runs, report.measured, marks(runs, report.measured, []))
    assert said.startswith("In pictures row 1 is 学生, row 2 is 老师, task 1 is 新闻分类 and task 2 is 情感分析: ")


def test_a_long_name_is_its_end() -> None:
    long = "a/" * LONGEST + "student"
    shown = written(long, "row 7")
    assert len(shown) == LONGEST and shown.startswith("row 7: …") and long.endswith(shown.partition("…")[2])


@pytest.mark.parametrize("length", [3, 20, 60])
def test_a_legend_is_in_the_picture(run: Run, length: int) -> None:
    for count in (1, 2, 5, MOST):
        shown = [Mark(run, written(f"{number} {'w' * length}", f"row {number}"), "C0") for number in range(count)]
        figure = plots.curves(shown)
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.x0 >= 0 and extent.width <= figure.bbox.width and len(legend.get_texts()) == count


def test_of_many_runs_the_best_are_shown_with_their_teachers(run: Run, tmp_path: Path) -> None:
    runs = named(run, [f"run {number}" for number in range(3 * MOST)])
    losses = random.Random(0).sample([5 + number / 100 for number in range(len(runs))], len(runs))
    contents = [heldout_figures(run, mlm_loss=loss) for run, loss in zip(runs, losses, strict=True)]
    found = {run.name: Measured() for run in runs}
    for each, content in zip(runs, contents, strict=True):
        found[each.name] = measured([saved(tmp_path / "1.json", content)], [each])[each.name]
    worst = runs[max(range(len(runs)), key=losses.__getitem__)].name
    best = {runs[place].name for place in sorted(range(len(runs)), key=losses.__getitem__)[: MOST - 1]}
    shown = marks(runs, found, [worst])
    assert {mark.run.name for mark in shown} == {worst} | best
    assert [mark.run.name for mark in shown] == [run.name for run in runs if run.name in {worst} | best]
    assert len({mark.color for mark in shown}) == MOST
    (said,) = remarks.of_pictures(runs, found, shown)
    assert said.startswith(f"Pictures have {MOST} of {len(runs)} runs: the teachers, and the others of the lowest")
    assert len(plots.curves(shown).legends[0].get_texts()) == MOST
    few = marks(runs[:3], found, [])
    assert [mark.run for mark in few] == runs[:3] and not remarks.of_pictures(runs[:3], found, few)
