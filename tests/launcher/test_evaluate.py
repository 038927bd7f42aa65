"""The command that measures a model: on tasks, from a run or its exported folder, and on held-out documents."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import launcher.evaluate
import launcher.finetune
from litebert.data.split import Split
from litebert.evaluate.heldout import evaluate_heldout
from litebert.export.huggingface import export_huggingface
from litebert.train.trained import load_trained
from tests.litebert.export.test_export import run_on
from tests.litebert.finetune.made_up import made_task

FEW = ["--train.samples=48", "--train.epochs=1", "--train.seeds=2", "--train.learning_rates=[1e-3]"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LITEBERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evaluations"


def scores(path: Path) -> list[dict]:
    """What does not tell time or place."""
    timed = ("seconds", "tokens_per_s")
    found = []
    for facts in json.loads(path.read_text())["tasks"]:
        arms = {arm: facts.pop(arm) for arm in ("model", "floor", "shuffled")}
        found.append(facts | {arm: {k: v for k, v in its.items() if k not in timed} for arm, its in arms.items()})
    return found


def remarks(err: str) -> list[str]:
    """Lines that are no progress."""
    return [line for line in err.splitlines() if line.startswith("evaluate: ")]


def test_a_run_its_checkpoint_and_its_export_are_the_same_model(shards, tmp_path, cache, capfd):
    run = run_on(shards, tmp_path)
    export_huggingface(load_trained(run), tmp_path / "exported")
    models = [run, next((run / "checkpoints").glob("step-*")), tmp_path / "exported"]
    tasks = [str(made_task(tmp_path / kind, kind)) for kind in ("sentence", "tagging")]
    capfd.readouterr()
    printed = []
    for number, model in enumerate(models):
        output = tmp_path / f"{number}.json"
        arguments = [str(model), "--task", *tasks, "--floor", "--shuffled", *FEW, "--output", str(output)]
        assert launcher.evaluate.main(arguments) == 0
        out, err = capfd.readouterr()
        printed.append(out.splitlines()[-4:])
        if number == 0:
            shown = {
                line.partition(":")[0] for line in err.splitlines() if line not in remarks(err)
            }  # a slow machine says more than once
            assert len(shown) == len(list(cache.iterdir())) == 2 * 3 * 2, err
            kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        else:
            assert remarks(err) == err.splitlines()  # all from the cache
    assert printed[0] == printed[1] == printed[2]
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    for path in kept:
        path.unlink()
    assert launcher.evaluate.main([str(models[2]), "--task", *tasks, "--floor", "--shuffled", *FEW]) == 0
    again = capfd.readouterr().out.splitlines()
    assert [row.split("|")[:-2] for row in again] == [row.split("|")[:-2] for row in printed[0]]  # all but the seconds
    assert scores(tmp_path / "0.json") == scores(tmp_path / "1.json") == scores(tmp_path / "2.json")


def test_what_has_no_label_is_counted(model, tmp_path, capfd):
    task = made_task(tmp_path / "task", "sentence")
    with (task / "train.jsonl").open("a") as stream:
        stream.write(2 * '{"text": "好", "label": null}\n')
    given = [model, "--task", str(task), "--output", str(tmp_path / "out.json"), "--train.epochs=0", *FEW[2:]]
    assert launcher.evaluate.main(given) == 0
    facts = json.loads((tmp_path / "out.json").read_text())["tasks"][0]
    both = ", ".join(f"{facts['overlap'][split]} of {split}" for split in ("dev", "test"))
    assert remarks(capfd.readouterr().err)[:2] == [
        "evaluate: intervals of 2 seeds say next to nothing: give --train.seeds 3 or more",
        "evaluate: task: examples without a label are left out: 2 of train; texts that are in train too, without "
        f"--train.overlap drop: {both}",
    ]
    assert facts["without_label"] == {"train": 2} and facts["sizes"]["train"] == 240


def test_the_cache_is_tried_before_the_work(model, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("LITEBERT_CACHE", "/proc/nocache")
    task = str(made_task(tmp_path / "task", "sentence"))
    for command, more in ((launcher.evaluate, []), (launcher.finetune, ["--output", str(tmp_path / "out")])):
        assert command.main([model, "--task", task, *more, *FEW]) == 2
        line = capfd.readouterr().err
        assert (
            "/proc/nocache/evaluations: no trial can be kept there (No such file or directory): set LITEBERT_C" in line
        )
        assert line.count("\n") == 1, "before the task is read"


def test_held_out_documents_are_measured_as_before(shards, tmp_path, capsys):
    run = run_on(shards, tmp_path)
    assert launcher.evaluate.main([str(run), "--data", str(shards), "--output", str(tmp_path / "out.json")]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert figures == json.loads((tmp_path / "out.json").read_text())
    assert figures["step"] == 100 and figures["mlm_loss"] > 0 and figures["kl"] is None
    train, heldout = Split(shards, "train"), Split(shards, "heldout")
    alone = dataclasses.asdict(evaluate_heldout(load_trained(run).model, train, heldout, torch.device("cpu")))
    assert {key: figures[key] for key in alone} == json.loads(json.dumps(alone))  # to the bit
    assert figures["mlm_by"]["source"]["made-up"]["masked_tokens"] == figures["masked_tokens"]
    assert 0 < figures["sop_strangers"]["pairs"] <= figures["pairs"]
    assert "| source | made-up |" in err and "are called swapped" in err


def test_what_is_wrong_is_said_in_a_line(tmp_path, capsys):
    task, scores = str(made_task(tmp_path / "task", "sentence")), tmp_path / "scores.json"
    scores.write_text('{"model": "m", "fingerprint": "f", "tasks": []}')
    for arguments, said in (
        ([], "give either --data, with held-out documents, or --task"),
        (["--data", task, "--task", task], "give either --data"),
        (["--task", str(tmp_path)], "no task: it has no train.jsonl"),
        (["--task", task], "no model (no run.json, checkpoint.json or config.json)"),
        (["--task", task, "--kind", "pair"], "no field 'text_a' in a pair example"),
        (["--task", task, "--train.batch=0", "--train.warmup=2"], "batch 0 must be 1 or more; warmup 2.0 must be"),
        (["--task", task, "--train.epoch=3"], "epoch"),
        (["--data", task, "--floor"], "--floor: with --data nothing is fine-tuned; leave out what is for --task"),
        (["--data", task, "--kind", "pair", "--shuffled"], "--kind, --shuffled: with --data"),
        (["--data", task, "--unlabelled", task, "--train.seeds=1"], "--train.seeds, --unlabelled: with --data"),
        (["--data", task, "--distill.alpha=0.1"], "--distill.alpha: with --data"),
        (
            ["--data", task, "--train.seeds=3", "--teacher", task],
            "not a run folder",
        ),  # the default, and what --data reads
        (
            ["--task", task, "--output", f"{task}/missing/out.json"],
            "missing/out.json: nothing can be written there: No su",
        ),
        (["--task", task, "--output", f"{task}/train.jsonl/out.json"], "nothing can be written there: Not a directory"),
        (["--data", task, "--output", "/proc/out.json"], "--output /proc/out.json: nothing can be written there"),
        (["--task", task, "--output", task], "it is a folder; give a file"),
        (["--task", task, "--output", f"{task}/train.jsonl"], "it exists and holds no figures of this kind: give"),
        (["--data", task, "--output", str(scores)], "it exists and holds no figures of this kind: give another"),
        (["--task", task, "--output", str(scores)], "no model (no run.json"),
    ):
        assert launcher.evaluate.main([str(tmp_path), *arguments]) == 2
        err = capsys.readouterr().err
        (line,) = (line for line in err.splitlines() if "texts that are in train too" not in line)
        assert line.startswith("evaluate: ") and said in line, err
