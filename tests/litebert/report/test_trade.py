"""A student beside its teacher: who that is, what is kept of it, and what the page says of both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch

from litebert.report import plots, remarks, tables
from litebert.report.figures import measured
from litebert.report.remarks import lead
from litebert.report.results import Score
from litebert.report.runs import Run, runs_of
from litebert.report.trade import beside, mean_of, share, teachers_of, trades
from litebert.train.checkpoint import Retention, publish, published, read
from tests.litebert.report.made_up import (
    SHAPE,
    STEPS,
    Page,
    heldout_figures,
    made_run,
    product_figures,
    report_of,
    saved,
    shows,
    speed_figures,
    task_figures,
)

HALF = f"--model.num_layers={SHAPE['num_layers'] // 2}"


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A student, the teacher, and one that had none."""
    folder = tmp_path_factory.mktemp("runs")
    teacher = made_run(shards, folder / "teacher")
    student = made_run(shards, folder / "student", 2, HALF, "--model.sharing=none", teacher=teacher)
    return runs_of([student, teacher, made_run(shards, folder / "control", 3, HALF)])


def test_a_teacher_is_known_by_its_weights(runs: list[Run], shards: Path, tmp_path: Path) -> None:
    student, teacher, control = runs
    assert teachers_of(runs) == {"student": "teacher"}
    assert teachers_of([student]) == teachers_of([student, control]) == teachers_of([teacher, control]) == {}
    assert beside(runs, {"student": "teacher"}) == dict.fromkeys(["student", "teacher", "control"], "teacher")
    two = {"student": "teacher", "control": "student"}
    assert beside(runs, two) == two, "of two teachers neither is that of a run which had none"
    moved = made_run(shards, tmp_path / "teacher")
    weights = read(published(moved)[-1]).tensors("weights")
    record = json.loads((moved / "run.json").read_text())
    changed = {name: weight + torch.ones_like(weight) for name, weight in weights.items()}
    publish(moved, STEPS + 1, {"weights": changed}, record, Retention(1))
    pupil = made_run(shards, tmp_path / "student", 2, teacher=teacher.path)
    assert teachers_of(runs_of([pupil, teacher.path])) and not teachers_of(runs_of([pupil, moved]))


def test_of_copies_of_a_teacher_the_first_is_it(runs: list[Run], shards: Path) -> None:
    student, teacher, _ = runs
    copy = Run.read(made_run(shards, teacher.path.with_name("copy")), "copy")
    for first, second in ((teacher, copy), (copy, teacher)):
        given = [first, second, student]
        assert (found := teachers_of(given)) == {"student": first.name}
        told = measured([], given)
        said = f"{second.name} has the weights of {first.name}, which was given first and is the teacher here."
        assert said in remarks.of_trades(given, trades(given, told, found), told)


def test_with_nothing_measured_there_is_no_table_of_sizes_alone(runs: list[Run]) -> None:
    assert not tables.trade(trades(runs, measured([], runs), {"student": "teacher"})).rows


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_an_interval_of_a_share_holds_the_truth_19_times_of_20(floor: float) -> None:
    chance = np.random.default_rng(0)
    spreads, seeds, held, draws = (0.02, 0.01, 0.015), 5, 0, 2000
    means = (0.5, 0.6, floor)
    truth = (means[0] - floor) / (means[1] - floor)
    for _ in range(draws):
        drawn = [chance.normal(mean, spread, seeds).tolist() for mean, spread in zip(means, spreads, strict=True)]
        scores = [Score(fmean(each), None, tuple(each)) for each in drawn]
        found = share(scores[0], scores[1], scores[2] if floor else None)
        assert found.interval
        held += found.interval[0] <= truth <= found.interval[1]
    assert 0.935 < held / draws < 0.975


def test_mean_and_interval_say_as_much_of_a_share_as_the_scores() -> None:
    drawn = [(0.45, 0.47, 0.5), (0.58, 0.6, 0.68), (0.3, 0.31, 0.35)]
    scores = [mean_of([Score(fmean(each), None, each)]) for each in drawn]
    told = [Score(score.mean, score.interval, seeds=3) for score in scores]
    for number in (2, 3):
        known, found = share(*scores[:number]), share(*told[:number])
        assert known.interval and found.interval and found.mean == known.mean
        assert found.interval == pytest.approx(known.interval) and known.interval[0] < known.mean - 0.01
    assert share(Score(0.4, None, seeds=1), told[1]).interval is None


def test_of_a_single_seed_there_is_no_interval() -> None:
    one, three = Score(0.5, None, (0.5,)), Score(0.6, (0.5, 0.7), (0.5, 0.6, 0.7))
    assert share(one, three) == Score(0.5 / 0.6, None)
    assert mean_of([one, three]).mean == pytest.approx(0.55) and mean_of([one, three]).interval is None
    both = mean_of([three, Score(0.4, None, (0.5, 0.4, 0.3))])
    assert both.interval == pytest.approx((0.5, 0.5)), "what one task wins by a seed, the other loses"


def test_the_page_says_the_trade(runs: list[Run], tmp_path: Path) -> None:
    student, teacher, _ = runs
    tasks = {
        run.name: [task_figures(run, "weather", taught=run is student), task_figures(run, "humour")] for run in runs
    }
    speeds, product = speed_figures(runs), product_figures(student)
    contents = [*(content for of in tasks.values() for content in of), speeds, product]
    contents += [heldout_figures(run) for run in runs]
    files = [saved(tmp_path / f"{number}.json", content) for number, content in enumerate(contents)]
    report_of([run.path for run in runs], files).write(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))

    def mean(run: Run, arm: str) -> float:
        return fmean(each["tasks"][0][arm]["test"]["accuracy"]["mean"] for each in tasks[run.name])

    def pace(run: Run, form: str) -> float:
        return float(speeds["models"][run.name]["samples_per_s"][f"{form}, 1 thread"]["128"][1])

    rows = {row["run"]: row for row in page.table("times as fast")}
    assert list(rows) == ["student", "teacher", "control"]
    base, plain = mean(teacher, "model"), pace(teacher, "transformers")
    for run in runs:
        row, floor = rows[run.name], mean(run, "floor")
        assert shows(row["parameters"], run.parameters / teacher.parameters)
        shares = ((mean(run, "model") - floor) / (base - floor), mean(run, "model") / base, mean(run, "model"))
        for head, value in zip(("of its lead over the floor", "of the teacher's", "score"), shares, strict=True):
            assert shows(row[head].rstrip("%").partition(" ± ")[0] + "%", value)
            assert (" ± " in row[head]) == (run is not teacher or head == "score")
        assert shows(row["times as fast"].rstrip("x"), pace(run, "transformers") / plain)
        assert shows(row["in int8"].rstrip("x"), pace(run, "onnx int8") / plain)
    for row in page.table("form"):
        run, form = next(run for run in runs if run.name == row["run"]), row["form"].partition(",")[0]
        assert shows(row["x the teacher, fp32"].rstrip("x"), pace(run, form) / plain)
        same = row["x the teacher, same form"]
        assert same == "–" if run is teacher else shows(same.rstrip("x"), pace(run, form) / pace(teacher, form))
    kept, size = f"{mean(student, 'model') / base:.0%}", f"{student.parameters / teacher.parameters:.0%}"
    assert re.search(
        rf"\d UTC\s+student keeps {kept} \(\d+–\d+\) of teacher's mean accuracy over 2 tasks, "
        rf"with {size} of its parameters, \S+x as fast in fp32 and \S+x in int8\. The scores are not those of int8\.",
        page.text,
    ), "the control had no teacher"
    (taught,) = (row for row in page.table("gained") if row["gained"] != "–")
    (facts,) = tasks["student"][0]["tasks"]
    assert (taught["run"], taught["task"]) == ("student", "weather")
    assert shows(taught["gained"].partition(" ± ")[0] + "%", facts["above_model"]["mean"])
    arm = facts["distilled"]["test"]["accuracy"]["mean"]
    assert shows(taught["taught by a fine-tuned teacher"].partition(" ± ")[0] + "%", arm)
    (row,) = page.table("as exported")
    assert (row["run"], row["in fp32"], row["as exported"]) == ("student", "80.0", "79.0")


def test_no_share_is_said_of_a_lead_that_may_be_chance(runs: list[Run], tmp_path: Path) -> None:
    student, teacher, _ = runs
    known = task_figures(student)
    wide = {"mean": 0.6, "interval": [0.2, 1.0], "scores": [0.4, 0.6, 0.8]}
    chance = task_figures(teacher, model={"test": {"accuracy": wide}})
    files = [saved(tmp_path / "1.json", known), saved(tmp_path / "2.json", chance)]
    found, _ = trades([student, teacher], measured(files, [student, teacher]), {"student": "teacher"})
    assert found.score and not found.above and found.kept is None and found.lead is None
    del known["tasks"][0]["floor"], known["tasks"][0]["above_floor"]
    without = [saved(tmp_path / "without.json", known), files[1]]
    for given in (files, without):
        told = measured(given, [student, teacher])
        every = trades([student, teacher], told, {"student": "teacher"})
        said = lead([student, teacher], told, every)
        assert said.startswith("teacher's accuracy on weather is not clearly above random weights: ")
        assert "keeps" not in said
        notes = " ".join(remarks.of_trades(runs, every, told))
        assert "No share is said for student and teacher: the teacher's score is not" in notes
        for table in (
            tables.trade(every),
            tables.tasks([student, teacher], told, beside(runs, {"student": "teacher"})),
        ):
            assert len(table.rows) == 2 and not {"of the teacher's", "of the teacher's lead"} & set(table.heads)


def test_a_share_without_a_floor_is_said_to_have_none(runs: list[Run], tmp_path: Path) -> None:
    contents = [task_figures(run) for run in runs[:2]]
    for floors, expected in ((True, False), (False, True)):
        if not floors:
            for content in contents:
                del content["tasks"][0]["floor"], content["tasks"][0]["above_floor"]
        told = measured([saved(tmp_path / f"{n}.json", content) for n, content in enumerate(contents)], runs)
        said = lead(runs, told, trades(runs, told, {"student": "teacher"}))
        assert said.startswith("student keeps ") and ("No floor was measured: " in said) == expected


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"settings": {"epochs": 5, "batch": 32, "learning_rates": [1e-4], "seeds": 3}}, "epochs 3 and 5"),
        ({"settings": {"epochs": 3, "batch": 32, "learning_rates": [1e-5], "seeds": 3}}, "learning_rates [0.0001] and"),
        ({"fingerprint": "another"}, "other files"),
        ({"sizes": {"train": 2000, "dev": 500, "test": 1201}}, "test examples 1200 and 1201"),
        ({"settings": {"epochs": 3, "batch": 32, "learning_rates": [1e-4], "seeds": 5}}, ""),
    ],
)
def test_a_share_is_of_scores_that_compare(runs: list[Run], tmp_path: Path, change: dict[str, Any], why: str) -> None:
    student, teacher, _ = runs
    its = task_figures(teacher, **{name: value for name, value in change.items() if name != "settings"})
    its |= {name: value for name, value in change.items() if name == "settings"}
    files = [saved(tmp_path / "1.json", task_figures(student)), saved(tmp_path / "2.json", its)]
    told = measured(files, runs)
    found, _, _ = every = trades(runs, told, {"student": "teacher"})
    assert (found.kept is None) == bool(why) == (not found.tasks)
    table = tables.tasks(runs, told, beside(runs, {"student": "teacher"}))
    (row,) = (dict(zip(table.heads, row, strict=True)) for row in table.rows if row[1] == "student")
    assert bool(row["of the teacher's"]) == bool(row["of the teacher's lead"]) == (not why)
    notes = " ".join(remarks.of_trades(runs, every, told))
    assert bool(why) == ("student was not fine-tuned as teacher was on weather" in notes) and why in notes


def test_means_are_over_the_same_tasks_for_all(runs: list[Run], tmp_path: Path) -> None:
    student, teacher, control = runs
    named = [(student, "weather"), *((run, name) for run in (teacher, control) for name in ("humour", "weather"))]
    contents = [task_figures(*each) for each in named]
    files = [saved(tmp_path / f"{number}.json", content) for number, content in enumerate(contents)]
    told = measured(files, runs)
    found = trades(runs, told, {"student": "teacher"})
    for its in found:
        (scores,) = (scores for scores in told[its.run].tasks if scores.task == "weather")
        assert its.tasks == ["weather"] and its.score and its.score.mean == pytest.approx(scores.model.mean)
    notes = " ".join(remarks.of_trades(runs, found, told))
    assert "Not every run beside a teacher has scores on humour: no mean" in notes


def test_ratios_are_of_speeds_that_were_measured_in_turn(runs: list[Run], tmp_path: Path) -> None:
    student, teacher, _ = runs
    together = saved(tmp_path / "0.json", speed_figures([student, teacher]))
    apart = [saved(tmp_path / f"{run.name}.json", speed_figures([run])) for run in (student, teacher)]
    for files, expected in (([together], True), (apart, False)):
        told = measured(files, runs)
        found, _, _ = every = trades(runs, told, {"student": "teacher"})
        assert (found.plain is not None) == (found.small is not None) == expected
        rows = tables.speeds(runs, told, beside(runs, {"student": "teacher"})).rows
        assert {row[0] for row in rows if row[-1].endswith("x")} == (
            {"student", "teacher"} if expected else {"teacher"}
        )
        for notes in (remarks.of_trades(runs, every, told), remarks.of_speeds(told)):
            assert any("were not timed in turn" in note for note in notes) != expected
        timed = plots.timed(runs, told)
        assert timed and len(timed[1]) == (2 if expected else 1)


def test_the_first_sentence_is_of_students_with_scores(runs: list[Run], tmp_path: Path) -> None:
    student, teacher, control = runs
    files = [saved(tmp_path / f"{run.name}.json", task_figures(run)) for run in (student, teacher)]
    both = {"student": "teacher", "control": "teacher"}
    told = measured(files, runs)
    assert lead(runs, told, trades(runs, told, both)).startswith("student keeps ")
    told = measured([*files, saved(tmp_path / "control.json", task_figures(control))], runs)
    assert lead(runs, told, trades(runs, told, both)).startswith("Of 2 runs beside their teacher, ")


def test_without_scores_the_page_says_the_loss(runs: list[Run], tmp_path: Path) -> None:
    student, teacher, _ = runs
    files = [
        saved(tmp_path / "1.json", heldout_figures(student, mlm_loss=5.25)),
        saved(tmp_path / "2.json", heldout_figures(teacher, mlm_loss=5.0)),
    ]
    report_of([student.path, teacher.path], files).write(tmp_path / "report.html")
    share_of = f"{student.parameters / teacher.parameters:.0%}"
    said = f"student is 0.250 nats a masked word behind teacher held out, with {share_of} of its parameters."
    assert said in (tmp_path / "report.html").read_text()
