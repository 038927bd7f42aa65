"""The command that keeps a fine-tuned model, and students that learn from it."""

from __future__ import annotations

import json
import re

import pytest

import launcher.evaluate
import launcher.finetune
from tests.litebert.finetune.made_up import made_task

FEW = ["--train.samples=32", "--train.epochs=1", "--train.seeds=1", "--train.learning_rates=1e-3"]


def test_a_teacher_is_kept_and_its_student_is_kept_and_evaluated(model, tmp_path, capfd):
    task, other = (str(made_task(tmp_path / kind, kind)) for kind in ("sentence", "tagging"))
    teacher, student = str(tmp_path / "teacher"), str(tmp_path / "student")
    assert launcher.finetune.main([model, "--task", task, "--output", teacher, *FEW]) == 0
    out, _ = capfd.readouterr()
    assert out.startswith(f"{teacher}: accuracy ") and "seed 1, the best of 1 on dev" in out
    taught = ["--teacher", teacher, "--unlabelled", f"{task}/train.jsonl", "--distill.augment=1"]
    assert launcher.finetune.main([model, "--task", task, "--output", student, *taught, *FEW]) == 0
    _, err = capfd.readouterr()
    answers = re.search(r"teacher answers: (\d+) of \1 rows", err)
    assert answers and 240 < int(answers[1]) < 480  # all of train, and a copy of each that has changed
    record = json.loads((tmp_path / "student/litebert.json").read_text())
    assert record["teaching"]["settings"]["augment"] == 1 and len(record["teaching"]["unlabelled"]) == 1
    evaluated = [launcher.evaluate.main([model, "--task", task, *taught, *FEW, "--output", f"{student}.json"])]
    _, err = capfd.readouterr()
    assert all(line.startswith("evaluate: ") for line in err.splitlines()) and evaluated == [
        0
    ]  # both trials were left by the two commands before
    facts = json.loads((tmp_path / "student.json").read_text())["tasks"][0]
    assert facts["distilled"]["test"] == record["all_seeds"]["test"] and facts["teaching"] == record["teaching"]
    scores = [facts[arm]["test"]["accuracy"]["mean"] for arm in ("distilled", "model")]
    assert facts["above_model"]["mean"] == pytest.approx(scores[0] - scores[1])
    for arguments, said in (
        (["--task", task, other, *taught], "--unlabelled is in the format of one task: give one --task"),
        (["--task", task, other, "--teacher", teacher], "no teacher for tagging: give one for each task"),
        (["--task", other, "--teacher", teacher], "no teacher for tagging"),
        (["--task", task, "--teacher", model], "no litebert.json that names its task"),
        (["--task", task, "--distill.alpha=0.1"], "--unlabelled and --distill are for a student: give its --teacher"),
    ):
        assert launcher.evaluate.main([model, *arguments]) == 2
        said_so(capfd, "evaluate", said)
    for arguments, said in (
        (["--task", other, "--teacher", teacher], "gives 2 labels (0, 1, ...), and tagging has 5"),
        (["--task", task, "--teacher", teacher, "--distill.alpha=3"], "alpha 3.0 must be a share of 1"),
        (["--task", task, "--unlabelled", task], "--unlabelled and --distill are for a student: give its --teacher"),
        (["--task", task, "--train.max_length=512"], "takes 96 tokens: train.max_length 512 is too much"),
        (["--task", task, "--output", teacher], "teacher exists; give another --output"),
        (["--task", str(tmp_path)], "no task: it has no train.jsonl"),
        ([], "task"),
    ):
        assert launcher.finetune.main([model, "--output", str(tmp_path / "new"), *arguments]) == 2
        said_so(capfd, "finetune", said)
    assert launcher.finetune.main([str(tmp_path), "--task", task, "--output", str(tmp_path / "new")]) == 2
    said_so(capfd, "finetune", "no model (no run.json, checkpoint.json or config.json)")
    assert not (tmp_path / "new").exists()


def test_a_test_without_labels_is_answered(model, tmp_path, capfd):
    task, output = made_task(tmp_path / "task", "sentence"), tmp_path / "out"
    (task / "test.jsonl").write_text('{"id": 40, "text": "好"}\n{"id": 2, "text": "坏"}\n')
    rates = "--train.learning_rates=[1e-7,1e-2]"
    assert launcher.finetune.main([model, "--task", str(task), "--output", str(output), *FEW[:2], rates]) == 0
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert [line.pop("id") for line in lines] == [40, 2] and all(line["label"] in ("0", "1") for line in lines)
    record = json.loads((output / "litebert.json").read_text())
    assert record["origin"] == "its dev as test, 24 of its train as dev" and record["without_label"] == {}
    if edge := record["all_seeds"]["edge"]:
        assert f"is the {edge} tried: others may be better" in capfd.readouterr().err


def said_so(capfd: pytest.CaptureFixture[str], command: str, said: str) -> None:
    err = capfd.readouterr().err
    (line,) = (line for line in err.splitlines() if "texts that are in train too" not in line)
    assert line.startswith(f"{command}: ") and said in line, err
