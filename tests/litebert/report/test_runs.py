"""What is read of a run folder, beside what the run's own files say and what its model is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litebert.report.corpora import texts_of
from litebert.report.plots import POINTS, smoothed, thinned
from litebert.report.runs import Run, runs_of
from litebert.train.trained import load_trained
from tests.litebert.report.made_up import DEVICES, STEPS, made_run


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(shards, tmp_path_factory.mktemp("runs") / "run")


def test_a_run_is_what_its_files_say(run: Path) -> None:
    found, trained = Run.read(run, "it"), load_trained(run)
    assert found.parameters == trained.model.parameter_count() and found.step == trained.step == STEPS
    assert found.encoder == sum(parameter.numel() for parameter in trained.model.encoder.parameters())
    assert found.shape == trained.model.config and found.recipe == trained.recipe
    assert found.done and found.ranks == 1 and found.devices == DEVICES
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps, values = found.curve("heldout_mlm")
    assert steps.tolist() == [line["step"] for line in lines if "heldout_mlm" in line]
    assert values.tolist() == [line["heldout_mlm"] for line in lines if "heldout_mlm" in line]
    assert found.heldout == lines[-1]


def test_hours_are_those_of_all_sessions(shards: Path, tmp_path: Path) -> None:
    run = made_run(shards, tmp_path / "run", hours=2)
    (events,) = (run / "tensorboard").iterdir()
    again = made_run(shards, tmp_path / "again", hours=0.5)
    (more,) = (again / "tensorboard").iterdir()
    more.rename(events.with_name(f"{more.name}.1"))
    assert [round(seconds / 60) for seconds in Run.read(run, "it").sessions] == [120, 30]
    with events.open("ab") as torn:
        torn.write(b"\x18\x00\x00\x00\x00")
    assert [round(seconds / 60) for seconds in Run.read(run, "it").sessions] == [120, 30]


def test_tokens_seen_are_those_of_the_plan_in_the_mean(run: Path, shards: Path) -> None:
    found = Run.read(run, "it")
    texts, missing = texts_of([found], [])
    (text,) = texts.values()
    lengths = np.load(shards / "train.lengths.npy").astype(float)
    assert not missing and text.tokens(found) == pytest.approx(STEPS * found.recipe.data.global_batch * lengths.mean())
    assert text.epochs(found) == pytest.approx(STEPS * found.recipe.data.global_batch / len(lengths))


def test_shards_that_moved_are_found_where_they_are_now(run: Path, shards: Path, tmp_path: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    found = Run.read(run, "it")
    gone = dataclasses.replace(found, data=[str(tmp_path / "gone")])
    texts, (line,) = texts_of([gone], [])
    assert not texts and line.startswith("it: nothing of its data (no shards at ")
    texts, missing = texts_of([gone], [str(shards)])
    assert texts.keys() == {record["fingerprints"]["data"]} and not missing
    other = dataclasses.replace(found, fingerprints={**found.fingerprints, "data": "another"})
    texts, (line,) = texts_of([other], [])
    assert not texts and "has changed since" in line
    with pytest.raises(ValueError, match="is not what any of these runs was trained on"):
        texts_of([other], [str(shards)])
    with pytest.raises(ValueError, match="no shards at"):
        texts_of([found], [str(tmp_path)])


def test_names_are_as_short_as_they_may_be(shards: Path, tmp_path: Path) -> None:
    one, two = (made_run(shards, tmp_path / name / "run") for name in ("one", "two"))
    assert [run.name for run in runs_of([one])] == ["run"]
    assert [run.name for run in runs_of([one, two])] == ["one/run", "two/run"]
    with pytest.raises(ValueError, match="is given twice"):
        runs_of([one, two, tmp_path / "two" / ".." / "one" / "run"])


def test_what_is_no_run_or_damaged_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the folder of a run"):
        Run.read(tmp_path, "it")
    run = made_run(shards, tmp_path / "run")
    metrics = (run / "metrics.jsonl").read_text()
    for damage in ("[]\n", '{"mlm": 1}\n', '{"step": "<b>"}\n', "{\n"):
        (run / "metrics.jsonl").write_text(metrics + damage)
        with pytest.raises(ValueError, match="not the metrics of a run"):
            Run.read(run, "it")
    (run / "metrics.jsonl").write_text(metrics + '{"step": 210, "ml')
    assert Run.read(run, "it").step == STEPS
    record = json.loads((run / "run.json").read_text())
    odd: tuple[dict[str, Any], ...] = (
        {"fingerprints": {}},
        {"fingerprints": "x"},
        {"versions": [1]},
        {"commit": None},
        {"data": None},
        {"data": [1]},
    )
    for damage in ("[]", "{}", "{", "[" * 100_000, *(json.dumps(record | change) for change in odd)):
        (run / "run.json").write_text(damage)
        with pytest.raises(ValueError, match=r"run\.json or recipe\.yaml is not what a run wrote \(.+\)"):
            Run.read(run, "it")


def test_a_curve_is_the_mean_of_its_neighbours_and_no_longer_than_a_screen() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    naive = [values[max(0, i - 12) : i + 13].mean() for i in range(1000)]
    np.testing.assert_allclose(smoothed(values), naive, rtol=0, atol=1e-12)
    assert len(smoothed(values[:0])) == 0 and smoothed(values[:3]).tolist() == pytest.approx(values[:3].tolist())
    steps, kept = thinned(np.arange(5000), np.arange(5000.0))
    assert len(steps) <= POINTS and steps[-1] == 4999 and (steps == kept).all()
