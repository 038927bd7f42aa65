"""Files of figures: which are known, whose they are, and what is said of the rest."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest

from litebert.export.huggingface import export_huggingface
from litebert.finetune.candidate import Candidate
from litebert.report.figures import measured
from litebert.report.runs import Run, runs_of
from litebert.train.trained import load_trained
from tests.litebert.report.made_up import heldout_figures, made_run, product_figures, saved, speed_figures, task_figures


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return runs_of([made_run(shards, folder / name, seed) for seed, name in enumerate(("one", "two"), start=1)])


def test_figures_go_to_their_run(runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = runs
    monkeypatch.chdir(one.path)
    checkpoint = next((two.path / "checkpoints").iterdir())
    files = [
        saved(tmp_path / "1.json", heldout_figures(one) | {"run": "../one"}),
        saved(tmp_path / "2.json", heldout_figures(two) | {"run": str(checkpoint)}),
        saved(tmp_path / "3.json", task_figures(two)),
        saved(tmp_path / "4.json", task_figures(two, "humour")),
    ]
    found = measured(files, runs)
    assert found["one"].heldout and not found["one"].tasks
    assert found["one"].heldout.mlm_loss == heldout_figures(one)["mlm_loss"]
    assert found["two"].heldout and found["two"].heldout.mlm_loss == heldout_figures(two)["mlm_loss"]
    assert [scores.task for scores in found["two"].tasks] == ["weather", "humour"]


def test_an_export_is_known_by_its_weights(runs: list[Run], tmp_path: Path) -> None:
    export_huggingface(load_trained(runs[1].path), tmp_path / "export")
    with Candidate.opened(tmp_path / "export") as candidate:
        own = task_figures(runs[0]) | {"model": str(tmp_path / "export"), "fingerprint": candidate.fingerprint}
    assert [len(its.tasks) for its in measured([saved(tmp_path / "own.json", own)], runs).values()] == [0, 1]
    foreign = saved(tmp_path / "foreign.json", own | {"fingerprint": "another"})
    with pytest.raises(ValueError, match=r"foreign\.json: is of .*export, none of the runs nor .* or an export"):
        measured([foreign], runs)


def test_fine_tuned_models_go_to_the_run_that_they_began_as(runs: list[Run], tmp_path: Path) -> None:
    exported, bare = product_figures(runs[1]), product_figures(runs[0])
    del bare["export"]
    files = [saved(tmp_path / "1.json", exported), saved(tmp_path / "2.json", bare | {"teaching": None})]
    found = measured(files, runs)
    ((two,), (one,)) = (found[name].products for name in ("two", "one"))
    assert (two.whole, two.kept, two.taught, two.form) == (0.8, 0.79, True, "ONNX, int8")
    assert (one.whole, one.kept, one.taught, one.form) == (0.81, None, False, "as it was fine-tuned")


def test_what_is_unknown_foreign_damaged_or_said_twice_is_refused(runs: list[Run], tmp_path: Path) -> None:
    one = runs[0]
    good, scores, speeds = heldout_figures(one), task_figures(one), speed_figures(runs)
    product = product_figures(runs[1])
    (facts,), one_speed = scores["tasks"], speeds["models"]["one"]
    accuracy = facts["model"]["test"]["accuracy"]

    def scored(**changes: Any) -> dict[str, Any]:
        return task_figures(one, model={"test": {"accuracy": accuracy | changes}})

    def timed(**changes: Any) -> dict[str, Any]:
        return speeds | {"models": {"one": one_speed | changes}}

    cases: list[tuple[Any, str]] = [
        ({"accuracy": 1.0}, "no figures that are known by their fields: held-out figures have mlm_loss, run, step;"),
        ([good], "not one object of JSON"),
        (good | {"run": str(tmp_path)}, "none of the runs nor the newest checkpoint of one: leave it out"),
        (good | {"run": str(one.path / "checkpoints/step-00000100")}, "none of the runs nor the newest checkpoint"),
        (speed_figures([]), "is of /peer, none of the runs"),
        (timed(latency_ms={"x": {"?": [1, 2, 3]}}), r"models\.one\.latency_ms\.x: '\?' is no length"),
        (timed(latency_ms={"x": {"8": [1, 2]}}), r"models\.one\.latency_ms\.x\.8 is \[1, 2\], and not 3 numbers"),
        (timed(latency_ms={"x": {"8": [0, 2, 3]}}), r"x\.8 is \[0, 2, 3\], and not three quartiles above 0"),
        (timed(samples_per_s={"x": {"8": [1, 1, 1]}}, latency_ms={"x": {"8": [3, 2, 1]}}), "not three quartiles above"),
        (timed(samples_per_s={"x": {"8": [-2, -1, 1]}}, latency_ms={"x": {}}), r"samples_per_s\.x\.8 is \[-2, -1, 1\]"),
        (timed(fingerprint="of before"), r"is of \S*one with other weights than one has now: measure that again"),
        (timed(fingerprint=None, parameters=7), "has 7 parameters in the encoder of one, and that has .*another model"),
        (scores | {"fingerprint": "of before"}, r"is of \S*one with other weights than one has now"),
        (scores | {"model": "elsewhere", "fingerprint": "of before"}, "is of elsewhere, none of the runs nor"),
        (scored(mean=1.5), r"tasks\[0\]\.model\.test\.accuracy\.mean is 1\.5, and not from 0 to 1"),
        (scored(mean=accuracy["mean"] - 0.01), r"accuracy\.mean is .*, and the mean of its scores "),
        (scored(scores=[]), r"accuracy\.scores is \[\], and not one number or more"),
        (scored(scores=[-0.1, 0.2]), r"accuracy\.scores\.0 is -0\.1, and not from 0 to 1"),
        (scored(interval=accuracy["interval"][::-1]), r"accuracy\.interval is .*, and not an interval around"),
        (
            task_figures(one, sizes={"train": 10**400, "test": 1}),
            r"sizes\.train is 1000.*\.\.\., and not a finite number",
        ),
        (
            scores
            | {
                "tasks": [
                    facts,
                    facts | {"metric": "f1", "model": {"test": {"f1": accuracy}}, "floor": {"test": {"f1": accuracy}}},
                ]
            },
            "has two scores on weather, which are not the same",
        ),
        (scores | {"tasks": [facts, 3]}, r"tasks\[1\] is not an object"),
        (good | {"mlm_loss": -1}, "mlm_loss is -1, and not a finite number of 0 or more"),
        (good | {"mlm_accuracy": 10**400}, r"mlm_accuracy is 1000.*\.\.\., and not from 0 to 1"),
        (good | {"sop_interval": good["sop_interval"][::-1]}, "sop_interval is .*, and not an interval around"),
        (product | {"export": {"form": "x", "test": {"model": 2, "file": None}}}, r"export\.test\.model is 2, and not"),
        (good | {"parameters": 7}, "has 7 parameters, and one .*: another model"),
        (good | {"mlm_loss": "<script>"}, "looks like held-out figures, and is damaged"),
        (good | {"mlm_loss": None}, "looks like held-out figures, and is damaged"),
        (good | {"kl": float("nan")}, "looks like held-out figures, and is damaged"),
        (good | {"sop_interval": [0.1]}, "looks like held-out figures, and is damaged: sop_interval .*not 2 numbers"),
        (good | {"run": 3}, "looks like held-out figures, and is damaged"),
        ({name: value for name, value in good.items() if name != "pairs"}, "looks like held-out figures, and is"),
        (good, "one has held-out figures from another file already"),
        (scores, "one has a score on weather from another file already"),
        (speeds, "one has speeds from another file already"),
        (product, "two has this fine-tuned model of weather from another file already: give one"),
        (product | {"model_fingerprint": "another"}, "is of two, begun as none of the runs is now: leave it out"),
        (product | {"task": "x", "metric": "f1", "export": None}, "looks like fine-tuned models, and is damaged"),
        (task_figures(one, "x", model={}), "looks like scores on tasks, and is damaged"),
        (task_figures(one, "x", sizes={"train": "many", "test": 1}), "looks like scores on tasks, and is damaged"),
    ]
    known_contents = (good, scores, speeds, product)
    known = [saved(tmp_path / f"{number}.json", content) for number, content in enumerate(known_contents)]
    for content, said in cases:
        first = known if content in known_contents else []
        with pytest.raises(ValueError, match=said):
            measured([*first, saved(tmp_path / "4.json", content)], runs)
    (tmp_path / "2.json").write_text("table\n{}")
    (tmp_path / "3.json").write_text("[" * 100_000)
    for path in (tmp_path / "2.json", tmp_path / "3.json", tmp_path / "none.json"):
        with pytest.raises(ValueError, match=r"\.json: cannot be read as JSON"):
            measured([path], runs)


def test_a_file_is_given_once(runs: list[Run], tmp_path: Path) -> None:
    path = saved(tmp_path / "1.json", heldout_figures(runs[0]))
    with pytest.raises(ValueError, match=r"1\.json: is given twice: give each file once"):
        measured([path, tmp_path / ".." / tmp_path.name / "1.json"], runs)


def test_speeds_say_their_batch_and_commit_if_the_file_does(runs: list[Run], tmp_path: Path) -> None:
    older = speed_figures(runs)
    newer = older | {"batch": 32, "commit": "0123456789abcdef-changed"}
    for content, said in ((older, ""), (newer, ", samples/s in batches of 32, commit 0123456789ab-changed")):
        found = measured([saved(tmp_path / "1.json", content)], runs)
        assert found["one"].speeds[0].where == f"a made-up processor, torch 2{said}"


def test_relative_paths_of_another_project_are_not_the_readers(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs[0].path.parent)
    theirs = task_figures(runs[1]) | {"model": "one"}
    assert [len(its.tasks) for its in measured([saved(tmp_path / "1.json", theirs)], runs).values()] == [0, 1]
    speeds = speed_figures(runs[:1])["models"]["one"]
    content = speed_figures([]) | {"models": {"x": speeds | {"path": "two"}}}
    assert [len(its.speeds) for its in measured([saved(tmp_path / "2.json", content)], runs).values()] == [3, 0]
    older = {name: value for name, value in speeds.items() if name != "fingerprint"}
    content = speed_figures([]) | {"models": {"x": older | {"path": "two"}}}
    assert [len(its.speeds) for its in measured([saved(tmp_path / "3.json", content)], runs).values()] == [0, 3]


def test_the_benchmark_says_whose_speeds_it_measured(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    inference = importlib.import_module("inference")
    model = inference.Model.of(runs[1].path, tmp_path / "made")
    figures = inference.measure({"x": model}, argparse.Namespace(threads=[]))
    assert figures["x"]["fingerprint"] == runs[1].fingerprint and figures["x"]["parameters"] == runs[1].encoder
    assert inference.Model.of(tmp_path / "made" / "onnx", tmp_path / "again").fingerprint is None


def test_tasks_of_one_name_are_told_apart_and_the_same_task_is_one(runs: list[Run], tmp_path: Path) -> None:
    ((first,), (second,)) = (task_figures(runs[0], name)["tasks"] for name in ("weather", "humour"))
    copied = first | {"task": "a copy"}
    content = task_figures(runs[0]) | {"tasks": [first, second | {"task": "weather"}, copied]}
    other = task_figures(runs[1], task="elsewhere", fingerprint=first["fingerprint"])
    files = [saved(tmp_path / "1.json", content), saved(tmp_path / "2.json", other)]
    found = measured(files, runs)
    names = [f"weather {each['fingerprint'][:6]}" for each in (first, second)]
    assert [scores.task for scores in found["one"].tasks] == names
    assert [scores.task for scores in found["two"].tasks] == names[:1]


def test_a_run_is_exported_once(runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, really = [], Candidate.opened

    def counted(location: Path) -> Any:
        opened.append(location)
        return really(location)

    contents = [task_figures(runs[1]), product_figures(runs[1]), product_figures(runs[1], 0.5)]
    files = [saved(tmp_path / f"{number}.json", content) for number, content in enumerate(contents)]
    again = runs_of([run.path for run in runs])
    monkeypatch.setattr(Candidate, "opened", counted)
    measured(files, again)
    assert sorted(opened) == sorted(run.path for run in again)
