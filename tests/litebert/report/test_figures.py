"""Files of figures: which are known, whose they are, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from litebert.evaluate.candidate import Candidate
from litebert.export.huggingface import export_huggingface
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
    cases: list[tuple[Any, str]] = [
        ({"accuracy": 1.0}, "no figures that are known by their fields: held-out figures have mlm_loss, run, step;"),
        ([good], "no figures: an object is wanted"),
        (good | {"run": str(tmp_path)}, "none of the runs nor the newest checkpoint of one: leave it out"),
        (good | {"run": str(one.path / "checkpoints/step-00000100")}, "none of the runs nor the newest checkpoint"),
        (speed_figures([]), "is of /peer, none of the runs"),
        (
            speeds | {"models": {"one": speeds["models"]["one"] | {"latency_ms": {"x": {"?": [1, 2, 3]}}}}},
            "is no length",
        ),
        (speeds | {"models": {"one": speeds["models"]["one"] | {"latency_ms": {"x": {"8": [1, 2]}}}}}, "not 3 numbers"),
        (good | {"parameters": 7}, "has 7 parameters, and one .*: another model"),
        (good | {"mlm_loss": "<script>"}, "looks like held-out figures, and is damaged"),
        (good | {"mlm_loss": None}, "looks like held-out figures, and is damaged"),
        (good | {"kl": float("nan")}, "looks like held-out figures, and is damaged"),
        (good | {"sop_interval": [0.1]}, "looks like held-out figures, and is damaged .*not 2 numbers"),
        (good | {"run": 3}, "looks like held-out figures, and is damaged"),
        ({name: value for name, value in good.items() if name != "pairs"}, "looks like held-out figures, and is"),
        (good, "one has held-out figures from another file already"),
        (scores, "one has a score on weather from another file already"),
        (speeds, "one has speeds from another file already"),
        (product | {"model_fingerprint": "another"}, "is of two, begun as none of the runs is now: leave it out"),
        (product | {"task": "x", "metric": "f1", "export": None}, "looks like fine-tuned models, and is damaged"),
        (task_figures(one, "x", model={}), "looks like scores on tasks, and is damaged"),
        (task_figures(one, "x", sizes={"train": "many", "test": 1}), "looks like scores on tasks, and is damaged"),
    ]
    known = [saved(tmp_path / f"{number}.json", content) for number, content in enumerate((good, scores, speeds))]
    for content, said in cases:
        first = known if content in (good, scores, speeds) else []
        with pytest.raises(ValueError, match=said):
            measured([*first, saved(tmp_path / "3.json", content)], runs)
    (tmp_path / "2.json").write_text("table\n{}")
    for path in (tmp_path / "2.json", tmp_path / "none.json"):
        with pytest.raises(ValueError, match=r"\.json: cannot be read as JSON"):
            measured([path], runs)
