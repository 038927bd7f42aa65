"""Task distillation: the loss, the teacher's answers, and students that learn what labels could not teach them."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from litebert.evaluate.heldout import wilson_interval
from litebert.finetune import distillation
from litebert.finetune.augmentation import MASK
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.distillation import PADDING, Teaching, collator, distilled_loss
from litebert.finetune.examples import Labelled, Question, Tagged, unlabelled
from litebert.finetune.experiment import Experiment
from litebert.finetune.prediction import predicted
from litebert.finetune.tasks import Task
from litebert.finetune.trial import PreparedTask, family_of
from tests.litebert.finetune.made_up import made_model, made_task

SHORT = FinetuneConfig(epochs=1, batch=16, learning_rates=(3e-3,), seeds=1, samples=48, precision="fp32")


def teaching_of(folder: Path, task: Task, *files: Path, **settings: float) -> Teaching:
    config = TaskDistillConfig(**settings)  # type: ignore[arg-type]
    return Teaching.of(folder, task, family_of(task), config, files)


@pytest.fixture
def other_candidate(tokenizer, tmp_path):
    """One with another tokenizer: SentencePiece's pieces."""
    with Candidate.opened(made_model(tmp_path / "other", tokenizer)) as opened:
        yield opened


@pytest.mark.parametrize(("alpha", "temperature"), [(0.5, 2.0), (0.0, 1.0), (0.3, 5.0), (1.0, 2.0)])
def test_the_loss_is_that_of_a_loop_in_float64(alpha, temperature):
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 4, 3, 5))
    classes = rng.integers(5, size=(4, 3)).astype(float)
    classes[1] = classes[2, 0] = np.nan  # a row and a place without a label
    teacher[0, 2] = classes[0, 2] = np.nan  # padding
    total, places = 0.0, 0
    for row in range(4):
        for place in range(3):
            if np.isnan(teacher[row, place, 0]):
                continue
            places += 1
            if not np.isnan(classes[row, place]):
                total -= alpha * log_softmax(student[row, place])[int(classes[row, place])]
            theirs, ours = (log_softmax(each[row, place] / temperature) for each in (teacher, student))
            divergence = sum(math.exp(p) * (p - q) for p, q in zip(theirs, ours, strict=True))
            total += (1 - alpha) * temperature**2 * divergence
    targets = torch.tensor(np.concatenate([classes[..., None], teacher], -1))
    logits = torch.tensor(student, requires_grad=True)
    loss = distilled_loss(logits, targets, alpha, temperature)
    assert float(loss.detach()) == pytest.approx(total / places, rel=1e-12) and places == 11
    assert torch.autograd.gradcheck(lambda x: distilled_loss(x, targets, alpha, temperature), logits)


def log_softmax(logits: np.ndarray) -> list[float]:
    whole = math.log(sum(math.exp(x) for x in logits))
    return [x - whole for x in logits]


@pytest.mark.parametrize("kind", ["sentence", "tagging", "span"])
def test_labels_alone_are_plain_fine_tuning_to_the_bit(kind, candidate, task, teacher):
    one, weights = task(kind), {}
    for alpha in (None, 1.0, 0.5):
        teaching = None if alpha is None else teaching_of(teacher(kind), one, alpha=alpha)
        trial, model = PreparedTask.prepared(candidate, one, SHORT, teaching=teaching).run(3e-3, 1, False, "a test")
        weights[alpha] = trial.scores, model.state_dict()
    assert weights[1.0][0] == weights[None][0]
    assert all(torch.equal(tensor, weights[1.0][1][name]) for name, tensor in weights[None][1].items())
    assert not all(torch.equal(tensor, weights[0.5][1][name]) for name, tensor in weights[None][1].items())


@pytest.mark.parametrize("kind", ["sentence", "pair", "tagging"])
def test_answers_are_those_of_the_teacher_alone_with_each_text(
    kind, candidate, other_candidate, task, teacher, tmp_path, monkeypatch
):
    """Of texts that the student, where no tokens are tagged, reads by another tokenizer than the teacher."""
    made_task(tmp_path / "more", kind, seed=7)
    monkeypatch.setattr(distillation, "PART", 50)
    student, one = candidate if kind == "tagging" else other_candidate, task(kind)
    teaching = teaching_of(teacher(kind), one, tmp_path / "more/test.jsonl", augment=1)
    lesson = PreparedTask.prepared(student, one, SHORT, teaching=teaching)
    examples, rows = lesson.examples["train"], lesson.encoded["train"].rows
    assert len(rows) == len(examples) > 48 + 150 and [x.labelled for x in examples] == [
        n < 48 for n in range(len(rows))
    ]
    assert any(MASK in one.text for one in examples)
    head = getattr(transformers, lesson.family.head).from_pretrained(teacher(kind)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(teacher(kind))
    for example, row in list(zip(examples, rows, strict=True))[::9]:
        inputs = tokenizer(example.text, getattr(example, "other", None), return_tensors="pt")
        with torch.inference_mode():
            logits = head(**inputs).logits[0]
        targets = torch.tensor(row["labels"])
        plain = lesson.family.encode([example], student.tokenizer, 96).rows[0]
        assert [int(name) for name in row["input_ids"]] == plain["input_ids"].tolist()
        classes = torch.tensor(plain["labels"]).flatten()
        if kind == "tagging":
            assert targets[[0, -1]].isnan().all()  # [CLS] and [SEP]
            targets, logits, classes = targets[1:-1], logits[1:-1], classes[1:-1]
        torch.testing.assert_close(targets[:, 1:], logits.reshape(-1, logits.shape[-1]), rtol=0, atol=1e-5)
        assert targets[:, 0].nan_to_num(nan=-100).tolist() == classes.tolist()
        assert example.labelled or targets[:, 0].isnan().all()


def test_answers_to_questions_are_those_of_the_teacher_alone_with_each_window(candidate, task, teacher, tmp_path):
    made_task(tmp_path / "more", "span", seed=7)
    one = task("span")
    teaching = teaching_of(teacher("span"), one, tmp_path / "more/test.jsonl")
    config = dataclasses.replace(SHORT, max_length=64)
    lesson = PreparedTask.prepared(candidate, one, config, teaching=teaching)
    examples, encoded = lesson.examples["train"], lesson.encoded["train"]
    assert len(encoded.rows) > len(examples) == 48 + 200  # some passages are read in windows
    head = transformers.AutoModelForQuestionAnswering.from_pretrained(teacher("span")).eval()
    plain = lesson.family.encode(examples, candidate.tokenizer, 64)
    for number in range(0, len(encoded.rows), 7):
        row, targets = plain.rows[number], encoded.rows[number]["labels"]
        with torch.inference_mode():
            said = head(torch.tensor(row["input_ids"])[None], token_type_ids=torch.tensor(row["token_type_ids"])[None])
        for place, logits in enumerate((said.start_logits[0], said.end_logits[0])):
            np.testing.assert_allclose(targets[place, 1:], logits, rtol=0, atol=1e-5)
        if examples[encoded.owners[number]].labelled:
            assert targets[:, 0].tolist() == [row["start_positions"], row["end_positions"]]
        else:
            assert np.isnan(targets[:, 0]).all()
    batch = collator(candidate.tokenizer)(list(encoded.rows[:9]))
    count = batch["input_ids"].shape[1]
    assert batch["labels"].shape == (9, 2, 1 + count) and set(batch) <= {
        *candidate.tokenizer.model_input_names,
        "labels",
    }
    assert (batch["labels"][:, :, 1:].transpose(1, 2)[batch["attention_mask"] == 0] == PADDING).all()


@pytest.mark.parametrize("temperature", [2.0, 20.0])
def test_what_pads_a_window_has_no_part_in_the_divergence(temperature):
    """Windows of 3 and 5 tokens, alone and in one batch; the student has logits at what pads, too."""
    torch.manual_seed(1)
    logits, answers = torch.randn(2, 2, 5, dtype=torch.float64).requires_grad_(), torch.randn(2, 2, 6).double()
    answers[..., 0] = math.nan
    alone = [distilled_loss(logits[0, :, :3], answers[0, :, :4], 0.3, temperature)]
    alone.append(distilled_loss(logits[1], answers[1], 0.3, temperature))
    answers[0, :, 4:] = PADDING
    together = distilled_loss(logits, answers, 0.3, temperature)
    assert float(together.detach()) == pytest.approx(sum(each.item() for each in alone) / 2, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: distilled_loss(x, answers, 0.3, temperature), logits)
    (gradient,) = torch.autograd.grad(together, logits)
    assert not gradient[0, :, 3:].any() and gradient[0, :, :3].all()


def test_a_row_is_never_longer_than_teacher_and_student_take(candidate, task, teacher):
    short = dataclasses.replace(candidate, positions=48)
    lesson = PreparedTask.prepared(short, task("span"), SHORT, teaching=teaching_of(teacher("span"), task("span")))
    rows = lesson.encoded["train"].rows
    assert max(len(row["input_ids"]) for row in rows) == 48 and len(rows) > SHORT.samples
    assert all(row["labels"].shape == (2, 1 + len(row["input_ids"])) for row in rows)
    teaching = teaching_of(teacher("span"), task("span"))
    teaching = dataclasses.replace(teaching, teacher=dataclasses.replace(teaching.teacher, positions=48))
    with pytest.raises(ValueError, match=r"cuts row \d+ into 48 tokens .*: train.max_length 48 or less"):
        PreparedTask.prepared(candidate, task("span"), SHORT, teaching=teaching)


def test_unlabelled_texts_may_have_labels_of_any_kind(tmp_path):
    path = tmp_path / "more.jsonl"
    path.write_text(json.dumps({"text": "一句", "label": True, "entities": 3}) + "\n")
    assert unlabelled(path, "sentence") == [Labelled("一句", None, None)]
    assert unlabelled(path, "tagging") == [Tagged("一句", None)]
    path.write_text(json.dumps({"context": "文", "qas": [{"question": "谁？", "answers": [{"text": ""}]}]}) + "\n")
    assert unlabelled(path, "span") == [Question("谁？", "文", ())]


def test_a_student_finds_answers_that_only_its_teacher_was_told(candidate, task, teacher, tmp_path):
    """Its own labels are those of other passages; the teacher answers questions without any."""
    one = task("span")
    family = family_of(one)
    noisy = dataclasses.replace(one, train=family.shuffled(one.train, 3))
    made_task(tmp_path / "more", "span", seed=7)
    config = dataclasses.replace(SHORT, epochs=8, samples=0)
    teaching = teaching_of(teacher("span"), noisy, tmp_path / "more/train.jsonl", alpha=0.1)
    scores = [
        PreparedTask.prepared(candidate, noisy, config, teaching=each).run(3e-3, 1, False, "")[0].scores["test"]["f1"]
        for each in (None, teaching)
    ]
    assert scores[0] < 0.4 and scores[1] > 0.8, scores


def test_a_student_learns_from_unlabelled_texts_what_random_labels_cannot_teach(candidate, task, teacher, tmp_path):
    one = task("sentence")
    labels = np.random.default_rng(3).integers(2, size=len(one.train)).astype(str)
    noisy = dataclasses.replace(
        one, train=[dataclasses.replace(x, label=str(y)) for x, y in zip(one.train, labels, strict=True)]
    )
    made_task(tmp_path / "more", "sentence", seed=7)
    config = dataclasses.replace(SHORT, epochs=4)
    teaching = teaching_of(teacher("sentence"), noisy, tmp_path / "more/train.jsonl", alpha=0.2)
    lessons = [PreparedTask.prepared(candidate, noisy, config, teaching=each) for each in (None, teaching)]
    models = [
        teaching.teacher.finetuned(lessons[0].family.head),
        *(each.run(3e-3, 1, False, "")[1] for each in lessons),
    ]
    rows = lessons[0].encoded["test"].rows
    said = [predicted(model, candidate.tokenizer, lessons[0].family, rows, config)[0].argmax(-1) for model in models]
    alone, taught = ((said[0] == its).sum() for its in said[1:])
    low, high = wilson_interval(int(alone), len(rows), 0.999)
    assert low < 0.5 < high
    assert taught / len(rows) > 0.9


def test_texts_are_asked_once_and_none_of_dev_or_test(task, teacher, tmp_path):
    one = task("sentence")
    texts = [
        "记者喜欢文化",
        "记者喜欢文化",
        *(split[0].text for split in (one.train, one.dev, one.test)),
        "老师解决问题",
    ]
    path = tmp_path / "more.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": "strange"}) + "\n" for text in texts))
    teaching = teaching_of(teacher("sentence"), one, path)
    expected = [Labelled("记者喜欢文化", None, None), Labelled("老师解决问题", None, None)]
    assert teaching.more(one, one.train) == expected
    assert teaching.more(one, one.train[1:]) == [expected[0], one.train[0].bare, expected[1]]
    copies = teaching_of(teacher("sentence"), one, path, augment=4).more(one, one.train)
    assert copies == teaching_of(teacher("sentence"), one, path, augment=4).more(one, one.train)
    assert copies[:2] == expected and len(copies) == len(set(copies)) > len(one.train)
    assert not {x.bare for x in (*one.train, *one.dev, *one.test)} & set(copies)


def test_trials_are_kept_by_teacher_settings_and_texts(candidate, task, teacher, tmp_path):
    one = task("sentence")
    more = [tmp_path / f"{number}.jsonl" for number in range(2)]
    for number, path in enumerate(more):
        path.write_text(json.dumps({"text": f"第{number}句"}) + "\n")
    plain = teaching_of(teacher("sentence"), one)
    teachings = [
        None,
        plain,
        teaching_of(teacher("sentence"), one, temperature=3.0),
        teaching_of(teacher("sentence"), one, augment=1),
        *(teaching_of(teacher("sentence"), one, path) for path in more),
    ]
    identities = [Experiment(candidate, one, SHORT, tmp_path, teaching=each)._identity for each in teachings]
    assert len({json.dumps(identity, sort_keys=True) for identity in identities}) == len(teachings)
    other = dataclasses.replace(plain.teacher, fingerprint="another")
    assert dataclasses.replace(plain, teacher=other).identity != plain.identity


def test_teachers_that_cannot_teach_are_said(candidate, other_candidate, task, teacher, tmp_path):
    with pytest.raises(ValueError, match=r"distill.augment 2: span is a span task, without copies: leave it out"):
        teaching_of(teacher("span"), task("span"), augment=2)
    with pytest.raises(ValueError, match=r"not fine-tuned as AutoModelForQuestionAnswering: .* is missing"):
        PreparedTask.prepared(candidate, task("span"), SHORT, teaching=teaching_of(teacher("sentence"), task("span")))
    with pytest.raises(ValueError, match=r"gives 2 labels \(0, 1, \.\.\.\), and tagging has 5 \(O, B-person, "):
        teaching_of(teacher("sentence"), task("tagging"))
    with pytest.raises(ValueError, match=r"no config.json in it: give a Hugging Face folder"):
        teaching_of(tmp_path, task("sentence"))
    with pytest.raises(ValueError, match=r"missing.jsonl: cannot be read"):
        teaching_of(teacher("sentence"), task("sentence"), tmp_path / "missing.jsonl")
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(ValueError, match=r"empty.json: no example in it"):
        teaching_of(teacher("sentence"), task("sentence"), tmp_path / "empty.json")
    raw = dataclasses.replace(teaching_of(teacher("sentence"), task("sentence")), teacher=candidate)
    with pytest.raises(ValueError, match=r"not fine-tuned as AutoModelForSequenceClassification: .* is missing"):
        PreparedTask.prepared(candidate, task("sentence"), SHORT, teaching=raw)
    weights = load_file(teacher("sentence") / "model.safetensors")
    shutil.copytree(teacher("sentence"), tmp_path / "lost")
    save_file(weights | {"classifier.bias": torch.tensor([0.0, math.nan])}, tmp_path / "lost/model.safetensors")
    lost = teaching_of(tmp_path / "lost", task("sentence"))
    with pytest.raises(ValueError, match=r"lost: its answers are not finite: give a teacher that learnt its task"):
        PreparedTask.prepared(candidate, task("sentence"), SHORT, teaching=lost)
    strange = teaching_of(teacher("tagging"), task("tagging"))
    with pytest.raises(ValueError, match=r"cuts row \d+ into \d+ tokens other than the \d+ of the student"):
        PreparedTask.prepared(other_candidate, task("tagging"), SHORT, teaching=strange)
    asking = teaching_of(teacher("span"), task("span"))
    with pytest.raises(ValueError, match=r"cuts row \d+ into \d+ tokens other than .*: to find entities or answers"):
        PreparedTask.prepared(other_candidate, task("span"), SHORT, teaching=asking)
    other_candidate.tokenizer.mask_token = "<mask>"
    masking = teaching_of(teacher("sentence"), task("sentence"), augment=1)
    with pytest.raises(ValueError, match=r"masks words with \[MASK\], which is <mask> to"):
        PreparedTask.prepared(other_candidate, task("sentence"), SHORT, teaching=masking)


def test_settings_report_all_that_is_wrong():
    with pytest.raises(ValueError, match=r"alpha 2 .* share of 1; mask -1 .*; temperature 0 .*; augment -1 must be 0"):
        TaskDistillConfig(alpha=2, mask=-1, temperature=0, augment=-1)
    with pytest.raises(ValueError, match=r"augment 3 changes nothing where mask and ngram are 0"):
        TaskDistillConfig(augment=3, mask=0, ngram=0)
