"""Fine-tuned models as folders: stock transformers opens them, and they are the models that were measured."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.examples import KINDS, READERS, Question
from litebert.finetune.experiment import Experiment
from litebert.finetune.model_folder import RECORD, finetune, teachings
from litebert.finetune.prediction import predicted
from litebert.finetune.span import overlap
from litebert.finetune.tagging import agreement
from litebert.finetune.trial import PreparedTask, family_of

STRANGER = """\
import json, os, re, sys
sys.modules["litebert"] = sys.modules["data_tools"] = None  # as if they were not there
import transformers
for folder, (head, text, other) in json.loads(sys.argv[1]).items():
    model = getattr(transformers, head).from_pretrained(folder).eval()
    output = model(**transformers.AutoTokenizer.from_pretrained(folder)(text, other, return_tensors="pt"))
    logits = [output.logits] if "logits" in output else [output.start_logits, output.end_logits]
    print(json.dumps({"logits": [each[0].tolist() for each in logits], "labels": model.config.id2label}))
    os.chdir(os.path.dirname(folder))
    exec(re.search("```python\\n(.*?)```", open(f"{folder}/README.md").read(), re.DOTALL)[1])  # prints a line
"""


def test_folders_open_without_litebert_with_the_logits_of_the_model_that_was_measured(
    candidate, task, teacher, tmp_path
):
    asked, expected = {}, []
    config = FinetuneConfig(epochs=4, batch=16, learning_rates=(3e-3,), seeds=1, precision="fp32")
    for kind in KINDS:
        record = json.loads((teacher(kind) / RECORD).read_text())
        lesson = PreparedTask.prepared(candidate, task(kind), config)
        trial, model = lesson.run(record["learning_rate"], record["seed"], False, "again")
        assert record["scores"] == trial.scores and record["task"] == kind
        one, family = task(kind).test[0], lesson.family
        pair = [one.question, one.context] if isinstance(one, Question) else [one.text, getattr(one, "other", None)]
        asked[str(teacher(kind))] = [family.head, *pair]
        rows = family.encode([one], candidate.tokenizer, 96).rows
        said = predicted(model, candidate.tokenizer, family, rows, config)
        expected.append((family.outputs, [each[0] for each in said]))
    (tmp_path / "stranger.py").write_text(STRANGER)
    done = subprocess.run(
        [sys.executable, tmp_path / "stranger.py", json.dumps(asked)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, (labels, logits) in zip(lines[::2], expected, strict=True):
        theirs = json.loads(line)
        assert tuple(theirs["labels"].values()) == labels
        for own, its in zip(logits, theirs["logits"], strict=True):
            np.testing.assert_allclose(own, its, rtol=0, atol=1e-5)
    of_cards = dict(zip(KINDS, lines[1::2], strict=True))
    assert of_cards["sentence"] in ("0", "1") and "'O'" in of_cards["tagging"]
    assert all(place.isdecimal() for place in of_cards["span"].split())


def test_a_card_says_what_the_model_scores(teacher):
    record = json.loads((teacher("sentence") / RECORD).read_text())
    card = (teacher("sentence") / "README.md").read_text()
    assert f"| accuracy on test | {record['scores']['test']['accuracy']:.1%} |" in card
    assert f"sentence, a sentence task; fingerprint {record['fingerprint']}" in card and "| labels | 0, 1 |" in card


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says_of_test_is_kept_and_scores_as_it_did(kind, task, teacher):
    test, scores = task(kind).test, json.loads((teacher(kind) / RECORD).read_text())["scores"]["test"]
    if kind == "span":
        said = json.loads((teacher(kind) / "predictions.json").read_text())
        assert list(said) == [str(number) for number in range(len(test))]
        answers = [[text for text, _ in one.answers] for one in test]
        found = np.mean([overlap(right, its) for right, its in zip(answers, said.values(), strict=True)])
        assert found == pytest.approx(scores["f1"])
        return
    lines = [json.loads(line) for line in (teacher(kind) / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(len(test)))
    if kind == "tagging":
        told: list[Any] = [READERS[kind](line) for line in lines]  # as CLUENER's files are read
        assert agreement([set(one.entities) for one in test], [set(one.entities) for one in told])[0] == scores["f1"]
    else:
        assert (
            np.mean([line["label"] == one.label for line, one in zip(lines, test, strict=True)]) == scores["accuracy"]
        )


def test_a_card_names_the_classes_that_are_mistaken(candidate, task, tmp_path):
    config = FinetuneConfig(epochs=0, learning_rates=(1e-3,), seeds=1, precision="fp32")
    made = finetune(candidate, task("sentence"), config, tmp_path / "trials", None, tmp_path / "out")
    (right, said, count), *_ = made["all_seeds"]["confused"]
    assert f"| most often mistaken on test | {said} for {right} ({count})" in (tmp_path / "out/README.md").read_text()
    lines = [json.loads(line)["label"] for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    wrong = [one.label == right and its == said for one, its in zip(task("sentence").test, lines, strict=True)]
    assert sum(wrong) == count > 0


def test_the_best_seed_on_dev_is_kept_and_nothing_is_overwritten(candidate, task, tmp_path):
    config = FinetuneConfig(epochs=2, batch=16, learning_rates=(1e-7, 3e-3), seeds=3, precision="fp32")
    made = finetune(candidate, task("tagging"), config, tmp_path / "trials", None, tmp_path / "out")
    dev = made["all_seeds"]["dev"]["f1"]["scores"]
    assert made["seed"] == 1 + int(np.argmax(dev)) and made["scores"]["dev"]["f1"] == max(dev) > min(dev)
    assert made["learning_rate"] == made["all_seeds"]["learning_rate"] == 3e-3
    assert json.loads((tmp_path / "out" / RECORD).read_text()) == json.loads(json.dumps(made))
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert set(kept) >= {"model.safetensors", "config.json", "tokenizer.json", "README.md", RECORD}
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    with pytest.raises(ValueError, match=r"out exists; give another --output"):
        finetune(candidate, task("tagging"), config, tmp_path / "trials", None, tmp_path / "out")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == kept


def test_a_fine_tuned_model_begins_another_task_with_a_new_head(teacher):
    with Candidate.opened(teacher("sentence")) as opened:
        model = opened.begun("AutoModelForSequenceClassification", ("a", "b", "c"), random=False)
        kept = opened.finetuned("AutoModelForSequenceClassification")
    assert model.classifier.weight.shape[0] == 3 and kept.classifier.weight.shape[0] == 2
    assert torch.equal(model.bert.pooler.dense.weight, kept.bert.pooler.dense.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fine_tuned_model_begins_its_own_task_with_a_new_head(kind, task, teacher):
    opened, family, heads = Candidate.read(teacher(kind)), family_of(task(kind)), []
    kept = opened.finetuned(family.head).state_dict()
    for seed in (1, 2):
        torch.manual_seed(seed)
        begun = opened.begun(family.head, family.outputs, random=False).state_dict()
        new = {name for name, tensor in begun.items() if not torch.equal(tensor, kept[name])}
        assert new == {name for name in kept if not name.startswith("bert.")}
        heads.append(torch.cat([begun[name].flatten() for name in sorted(new)]))
    assert not torch.equal(*heads)


def test_what_a_fine_tuned_model_has_learnt_of_labels_does_not_score(task, teacher, tmp_path):
    """Its encoder still tells the classes apart: a new head says all of them right or all wrong, as a coin falls."""
    config = FinetuneConfig(epochs=0, learning_rates=(1e-3,), seeds=6, precision="fp32")
    opened = Candidate.read(teacher("sentence"))
    shuffled = Experiment(opened, task("sentence"), config, tmp_path, shuffled=True).outcome().test["accuracy"]
    assert min(shuffled.scores) < 0.5 < max(shuffled.scores)


def test_a_teacher_is_found_by_the_task_that_it_was_fine_tuned_on(candidate, task, teacher, tmp_path):
    folders, tasks = [teacher("pair"), teacher("sentence")], [task("sentence"), task("pair")]
    found = teachings(folders, tasks, TaskDistillConfig(), [])
    assert {key: its.teacher.location for key, its in found.items()} == {
        one.fingerprint: teacher(one.kind) for one in tasks
    }
    changed = dataclasses.replace(task("pair"), fingerprint="of other files")
    for given, wanted, said in (
        (folders, tasks[:1], "2 teachers, and 1 to be taught: give one for each"),
        (folders[:1], tasks, "no teacher for sentence: give one for each task"),
        (folders, [tasks[0], changed], "no teacher for pair: "),
        ([candidate.folder], tasks[:1], f"no {RECORD} that names its task: give a folder of launcher/finetune.py"),
    ):
        with pytest.raises(ValueError, match=said):
            teachings(given, wanted, TaskDistillConfig(), [])
