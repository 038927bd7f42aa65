"""Fine-tuning tiny models: what can be learnt is learnt, what cannot is chance, and the same again is the same."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from data_tools.shards import keyed_rng
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.wordpiece import WordPiece
from litebert.evaluate.heldout import wilson_interval
from litebert.finetune import experiment
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.examples import KINDS, Question, Tagged
from litebert.finetune.experiment import CODE, Best, Experiment, code_fingerprint, evaluate, facts_of
from litebert.finetune.prediction import arguments, device
from litebert.finetune.results import remarks, table
from litebert.finetune.span import Span
from litebert.finetune.tagging import Tagging
from litebert.finetune.tasks import Task
from litebert.finetune.trial import PreparedTask, Trial, used
from litebert.model.heads import PretrainingModel
from litebert.model.huggingface import save_huggingface
from litebert.model.presets import PRESETS
from tests.litebert.finetune.made_up import MADE, made_model

QUICK = FinetuneConfig(epochs=4, batch=16, learning_rates=(3e-3,), seeds=1, precision="fp32")
LEARNT = {"sentence": 0.9, "pair": 0.9, "tagging": 0.9, "span": 0.8}
CHANCE = 0.25  # of other places in a passage that repeats a few words

assert tuple(MADE) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_be_learnt_is_learnt_and_shuffled_labels_are_chance(kind, candidate, task, tmp_path):
    one = task(kind)
    metric = PreparedTask.prepared(candidate, one, QUICK, shuffled=False).family.metric
    learnt = Experiment(candidate, one, QUICK, tmp_path).outcome()
    assert learnt.test[metric].mean > LEARNT[kind] and learnt.dev[metric].mean > LEARNT[kind]
    shuffled = Experiment(candidate, one, QUICK, tmp_path, shuffled=True).outcome()
    check_chance(one, shuffled.test[metric].mean)


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_that_learn_nothing_are_chance(kind, candidate, task, tmp_path):
    one, config = task(kind), FinetuneConfig(epochs=0, learning_rates=(1e-3,), seeds=3, precision="fp32")
    random = Experiment(candidate, one, config, tmp_path, random=True).outcome()
    metric = "accuracy" if kind in ("sentence", "pair") else "f1"
    check_chance(one, random.test[metric].mean)


def check_chance(one: Task, score: float) -> None:
    """Two classes are guessed as a coin would, within what 999 of 1000 coins do; entities by where they often are."""
    if one.kind == "span":
        assert score < CHANCE
    elif one.kind == "tagging":
        assert score <= frequent(one) < 0.6
    else:
        low, high = wilson_interval(score * len(one.test), len(one.test), 0.999)
        assert low < 0.5 < high


def frequent(one: Task) -> float:
    """The best F1 of saying the same entities of every text, whatever stands in it."""
    places = Counter(entity for example in one.test for entity in example.entities)
    best = hits = 0.0
    for said, (_, count) in enumerate(places.most_common(), start=1):
        hits += count
        best = max(best, 2 * hits / (places.total() + said * len(one.test)))
    return best


def test_what_learnt_nothing_is_said(candidate, task, tmp_path):
    config = FinetuneConfig(epochs=0, learning_rates=1e-3, seeds=1, precision="fp32")
    for kind, metric, least in (("tagging", "f1", "0.0%"), ("sentence", "accuracy", "")):
        outcome = dataclasses.asdict(Experiment(candidate, task(kind), config, tmp_path).outcome())
        outcome["test"][metric]["mean"] = outcome["test"].get("majority", {"mean": 0.0})["mean"]
        said = [*remarks({"task": kind, "metric": metric, "model": outcome, "shuffled": outcome, "floor": outcome})]
        assert [line.split(":")[0] for line in said] == [f"{kind}, model", f"{kind}, floor"]
        assert all(f"{least} on test is what is had for nothing" in line and "--train.warmup" in line for line in said)
        outcome["test"][metric]["mean"] += 0.01
        assert not [*remarks({"task": kind, "metric": metric, "model": outcome})]


def test_the_same_twice_is_the_same_to_the_bit(candidate, task, tmp_path):
    config = FinetuneConfig(epochs=2, batch=16, learning_rates=(1e-3, 3e-3), seeds=3)
    outcomes = [Experiment(candidate, task("tagging"), config, tmp_path / name).outcome() for name in "ab"]
    assert outcomes[0].test == outcomes[1].test and outcomes[0].dev == outcomes[1].dev
    assert outcomes[0].choice == outcomes[1].choice
    assert len(set(outcomes[0].test["f1"].scores)) > 1  # seeds do differ
    assert outcomes[0].sampling is None  # entities are no sample of examples


@pytest.mark.parametrize("kind", ["sentence", "span"])
def test_a_config_that_asks_for_more_outputs_is_fine_tuned_all_the_same(kind, candidate, task, tmp_path):
    folder = Path(shutil.copytree(candidate.folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text()) | {
        "output_hidden_states": True,
        "output_attentions": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    trials = [
        PreparedTask.prepared(Candidate.read(each), task(kind), dataclasses.replace(QUICK, samples=48)).run(
            3e-3, 1, False, ""
        )[0]
        for each in (candidate.folder, folder)
    ]
    assert trials[0].scores == trials[1].scores


def test_the_rate_is_the_best_on_dev(candidate, task, tmp_path):
    config = FinetuneConfig(epochs=4, batch=16, learning_rates=(1e-7, 3e-3, 1e-6), seeds=2, precision="fp32")
    outcome = Experiment(candidate, task("sentence"), config, tmp_path).outcome()
    assert outcome.learning_rate == 3e-3 == float(max(outcome.choice, key=lambda rate: outcome.choice[rate] or 0.0))
    assert len(list(tmp_path.glob("*.json"))) == 3 + 1  # each rate once, and the second seed of the best
    share = outcome.test["accuracy"].mean
    assert outcome.sampling == wilson_interval(200 * share, 200) and outcome.sampling[0] < share <= outcome.sampling[1]
    assert outcome.edge == "highest" and outcome.seed == 1 + int(np.argmax(outcome.dev["accuracy"].scores))
    f1 = [its["f1"] for its in outcome.classes.values()]
    assert np.mean(f1) == pytest.approx(outcome.test["macro_f1"].scores[outcome.seed - 1])
    assert sum(its["count"] for its in outcome.classes.values()) == len(task("sentence").test)
    arms = dict.fromkeys(("model", "shuffled"), dataclasses.asdict(outcome))
    said = [*remarks({"task": "a task", "metric": "accuracy", **arms})]
    assert said == ["a task, model: the best learning rate on dev, 0.003, is the highest tried: others may be better"]
    for rates, edge in (((3e-3,), None), ((3e-3, 1e-7), "highest"), ((3e-3, 1.0), "lowest"), ((1e-7, 3e-3, 1.0), None)):
        again = dataclasses.replace(config, learning_rates=rates, seeds=1)
        assert Experiment(candidate, task("sentence"), again, tmp_path).outcome().edge == edge
    untaught = dataclasses.replace(config, epochs=0, seeds=1)
    assert Experiment(candidate, task("sentence"), untaught, tmp_path).outcome().edge is None  # all the same


def test_a_rate_that_diverges_is_not_chosen_and_nothing_else_is_taken_for_a_model(candidate, task, tmp_path):
    config = FinetuneConfig(epochs=1, batch=64, learning_rates=(1e38, 1e-3), seeds=1, samples=128, precision="fp32")
    outcome = Experiment(candidate, task("sentence"), config, tmp_path).outcome()
    assert outcome.choice["1e+38"] is None and outcome.learning_rate == 1e-3 and outcome.edge == "lowest"
    again = Experiment(candidate, task("sentence"), config, tmp_path).outcome()
    assert again == outcome and len(list(tmp_path.iterdir())) == 2, "that it diverged is kept"
    config = dataclasses.replace(config, learning_rates=(1e38,), seeds=2)
    with pytest.raises(
        ValueError, match=r"sentence, tiny, learning rate 1e\+38, seed 1: diverged, .*: lower train\.learn"
    ):
        Experiment(candidate, task("sentence"), config, tmp_path).outcome()
    best = Best()
    with pytest.raises(ValueError, match="diverged"):
        Experiment(candidate, task("sentence"), config, tmp_path, best=best).outcome()
    assert best.model is None


def test_a_further_seed_that_diverges_is_said(candidate, task, tmp_path, monkeypatch):
    def run(self, rate, seed, random, label):
        scores = {split: {"accuracy": 0.5} for split in ("dev", "test")} if seed < 2 else {}
        return Trial(scores, 1.0, 1.0, {}, []), None

    monkeypatch.setattr(PreparedTask, "run", run)
    with pytest.raises(ValueError, match=r"learning rate 0\.003, seed 2: diverged"):
        Experiment(candidate, task("sentence"), dataclasses.replace(QUICK, seeds=3), tmp_path).outcome()
    assert len(list(tmp_path.iterdir())) == 2, "the third is not tried"


def test_trials_are_kept_by_all_they_depend_on(candidate, task, tmp_path, monkeypatch):
    config = FinetuneConfig(epochs=1, batch=64, learning_rates=(1e-3,), seeds=1, samples=32)
    tasks = [task("sentence")]
    first = evaluate(candidate, tasks, config, ["floor"], tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 2
    with monkeypatch.context() as patched:
        patched.setattr(PreparedTask, "run", None)  # nothing may be run again
        assert evaluate(candidate, tasks, config, ["floor"], tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    assert first["tasks"][0]["above_floor"]["mean"] == pytest.approx(
        first["tasks"][0]["model"]["test"]["accuracy"]["mean"] - first["tasks"][0]["floor"]["test"]["accuracy"]["mean"]
    )
    identity = Experiment(candidate, tasks[0], config, tmp_path)._identity
    for changed in (
        Experiment(candidate, task("pair"), config, tmp_path),
        Experiment(candidate, tasks[0], FinetuneConfig(**{**vars(config), "epochs": 2}), tmp_path),
        Experiment(candidate, tasks[0], config, tmp_path, random=True),
        Experiment(candidate, tasks[0], config, tmp_path, shuffled=True),
    ):
        assert changed._identity != identity
    positions = dataclasses.replace(candidate, positions=80)  # of the same weights, shape and tokenizer
    assert Experiment(positions, tasks[0], config, tmp_path)._identity != identity
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert Experiment(candidate, tasks[0], config, tmp_path)._identity != identity
    torch.set_num_threads(threads)
    monkeypatch.setattr(experiment, "code_fingerprint", lambda: "of other code")
    assert Experiment(candidate, tasks[0], config, tmp_path)._identity != identity
    next(iter(kept)).write_text("{}")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"no trial \(KeyError\('trial'\)\): remove it"):
        evaluate(candidate, tasks, config, ["floor"], tmp_path)


def test_texts_that_dev_or_test_has_are_left_out_of_train_if_asked(candidate, task):
    one, config = task("sentence"), dataclasses.replace(QUICK, samples=32)
    measured = {x.text for x in (*one.dev, *one.test)}
    alone = [x for x in one.train if x.text not in measured]
    assert 32 < len(alone) < len(one.train), "the words are few"
    kept, dropped = (PreparedTask.prepared(candidate, one, x).examples for x in (config, drop(config)))
    assert not measured & {x.text for x in dropped["train"]}
    assert [kept[split] for split in ("dev", "test")] == [dropped[split] for split in ("dev", "test")]
    assert len(kept["train"]) == len(dropped["train"]) == 32
    assert used(one, drop(QUICK)) == alone and used(one, QUICK) == one.train
    assert facts_of(one, drop(QUICK))["sizes"]["train"] == len(alone)
    with pytest.raises(ValueError, match=r"train has no text that is not in dev or test: train\.overlap drop leaves"):
        used(dataclasses.replace(one, train=one.test), drop(QUICK))
    with pytest.raises(ValueError, match="overlap 'sift' must be keep or drop"):
        FinetuneConfig(overlap="sift")  # type: ignore[arg-type]


def drop(config: FinetuneConfig) -> FinetuneConfig:
    return dataclasses.replace(config, overlap="drop")


def test_all_code_that_scores_depend_on_is_in_its_fingerprint(tmp_path, monkeypatch):
    for name in CODE:
        source = Path(experiment.__file__).with_name(f"{name}.py").read_text()
        assert set(re.findall(r"from litebert\.finetune\.(\w+) import", source)) <= {*CODE, "config"}, name
    before = code_fingerprint.__wrapped__()
    (tmp_path / "keyed_rng.py").write_text("# draws otherwise")
    monkeypatch.setattr(keyed_rng, "__file__", str(tmp_path / "keyed_rng.py"))
    assert code_fingerprint.__wrapped__() != before


def test_weights_make_the_fingerprint_and_shape_the_floors(candidate, wordpiece, tmp_path):
    with Candidate.opened(made_model(tmp_path / "same", wordpiece)) as same:
        assert (same.fingerprint, same.shape) == (candidate.fingerprint, candidate.shape)
    other = made_model(tmp_path / "other", wordpiece, spread=0.5)
    (other / "config.json").write_bytes((candidate.folder / "config.json").read_bytes())
    with Candidate.opened(other) as opened:
        assert opened.shape == candidate.shape and opened.fingerprint != candidate.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_batches_in_order_of_length_are_read_as_one_row_at_a_time(kind, wordpiece, task, tmp_path):
    config = FinetuneConfig(epochs=0, batch=8, max_length=32, precision="fp32")
    with Candidate.opened(made_model(tmp_path / "wide", wordpiece, spread=0.7)) as candidate:
        lesson = PreparedTask.prepared(candidate, task(kind), config, shuffled=False)
        trial, _ = lesson.run(1e-3, 1, False, "nothing")
        transformers.set_seed(1)
        model = candidate.begun(lesson.family.head, lesson.family.outputs, random=False).eval()
    for split in ("dev", "test"):
        encoded = lesson.encoded[split]
        assert max(len(row["input_ids"]) for row in encoded.rows) <= 32
        outputs = []
        with torch.inference_mode():
            for row in encoded.rows:
                names = ("input_ids", "token_type_ids")
                output = model(**{name: torch.tensor(row[name])[None].long() for name in names})
                logits = output.logits if "logits" in output else torch.stack([output.start_logits, output.end_logits])
                outputs.append(logits.reshape(2, -1) if kind == "span" else logits[0])
        if kind == "span":
            arrays = tuple(padded([output[i] for output in outputs]) for i in range(2))
        else:
            arrays = (padded(outputs),)
        expected = lesson.family.scores(lesson.examples[split], encoded, arrays)
        assert trial.scores[split] == pytest.approx(expected)
    assert 0 < trial.scores["test"][lesson.family.metric] < 1


def padded(logits: list[torch.Tensor]) -> np.ndarray:
    """One array; padding must not be read, so it is large."""
    return torch.nn.utils.rnn.pad_sequence(logits, batch_first=True, padding_value=1e4).numpy()


def test_tags_are_read_back_from_tokens(candidate):
    family = Tagging(("person", "place"))
    text = "北京hello记者 3.14%"
    examples = [
        Tagged(text, ((0, 2, "place"), (2, 7, "person"), (7, 9, "person"))),
        Tagged(text, ((0, 5, "place"),)),  # ends within a token
    ]
    encoded = family.encode(examples, candidate.tokenizer, 64)
    tokens = candidate.tokenizer.convert_ids_to_tokens(encoded.rows[0]["input_ids"])
    assert tokens[:6] == ["[CLS]", "北", "京", "hello", "记", "者"]
    assert encoded.rows[0]["labels"][:6] == [-100, 3, 4, 1, 1, 2]
    found = [set(family.entities(np.array(row["labels"]), encoded.offsets[0])) for row in encoded.rows]
    assert found == [set(examples[0].entities or ()), {(0, 7, "place")}]
    outputs = np.eye(5, dtype=np.float32)[np.maximum(0, [row["labels"] for row in encoded.rows])]
    scores = family.scores(examples, encoded, (outputs,))
    assert scores["f1"] == scores["ceiling"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_questions_are_cut_by_tokens(kind, wordpiece, tokenizer, tmp_path):
    save_tokenizer(wordpiece if kind == "wordpiece" else tokenizer, tmp_path, max_length=96)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    limit = 48 // 4
    for text in ("hello " * limit, "谁？" * 20, "hello 3.14%北京的记者" * 9, "㍿" * 30, "谁", ""):
        whole = loaded(text, add_special_tokens=False)["input_ids"]
        question = Question(text, "记者在北京。", (("北京", 3),))
        row = Span().encode([question, question], loaded, 48).rows[1]["input_ids"].tolist()
        kept = row[1 : row.index(loaded.sep_token_id)]
        assert kept == whole[: len(kept)] and len(kept) <= limit
        # characters that become several tokens go or stay whole
        assert len(kept) > limit - 3 or kept == whole


def test_windows_overlap_and_know_their_answer(candidate):
    context = "".join(chr(0x4E00 + number) for number in range(100))
    question = Question("谁？" * 20, context, ((context[50:53], 50),))
    encoded = Span().encode([question, question], candidate.tokenizer, 48)
    assert all(len(row["input_ids"]) <= 48 for row in encoded.rows)
    assert encoded.owners.tolist() == sorted(encoded.owners.tolist()) and set(encoded.owners) == {0, 1}
    seen, whole = np.zeros(100, int), 0
    for row, offsets, owner in zip(encoded.rows, encoded.offsets, encoded.owners, strict=True):
        assert candidate.tokenizer.decode(row["input_ids"]).count("[SEP]") == 2
        start, end = row["start_positions"], row["end_positions"]
        places = offsets[offsets[:, 0] < offsets[:, 1]]
        if places[0, 0] <= 50 and places[-1, 1] >= 53:
            assert (offsets[start, 0], offsets[end, 1]) == (50, 53)
            whole += 1
        else:
            assert (start, end) == (0, 0)
        if owner == 0:
            seen[places[0, 0] : places[-1, 1]] += 1
    assert seen.min() >= 1 and seen.max() >= 2 and whole >= 2


def test_settings_report_all_that_is_wrong():
    with pytest.raises(ValueError, match=r"batch 0 .*; seeds 0 .*; learning_rates \[\] .*; max_length 3 .*; warmup 1 "):
        FinetuneConfig(batch=0, seeds=0, learning_rates=(), max_length=3, warmup=1)


@pytest.mark.parametrize("preset", ["albert-tiny", "bert-base", "distil-6"])
def test_every_family_takes_every_head(preset: str, wordpiece: WordPiece, tmp_path: Path) -> None:
    """Whatever layers a head has beside what pretraining leaves."""
    shape = dataclasses.replace(
        PRESETS[preset],
        num_layers=1,
        hidden_size=32,
        embedding_size=16 if "albert" in preset else 32,
        num_heads=2,
        vocab_size=wordpiece.vocab_size,
        max_positions=96,
    )
    save_huggingface(PretrainingModel(shape), tmp_path, pad_id=0, cls_id=2, sep_id=3)
    save_tokenizer(wordpiece, tmp_path, max_length=96)
    with Candidate.opened(tmp_path) as opened:
        for head in ("SequenceClassification", "TokenClassification", "QuestionAnswering"):
            opened.begun(f"AutoModelFor{head}", ("a", "b"), random=False)


def test_models_that_cannot_be_read_are_said(wordpiece, tmp_path):
    with pytest.raises(ValueError, match="no model"), Candidate.opened(tmp_path):
        pass
    folder = made_model(tmp_path / "model", wordpiece)
    weights = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    lost = [name for name in tensors if ".layer.1." in name]
    save_file({name: tensor for name, tensor in tensors.items() if name not in lost}, weights, {"format": "pt"})
    with Candidate.opened(folder) as opened, pytest.raises(ValueError, match=rf"weights are missing: .*{len(lost)} in"):
        opened.begun("AutoModelForSequenceClassification", ("a", "b"), random=False)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are not read"), Candidate.opened(folder):
        pass


def test_the_table_says_what_is_above_the_floor():
    summary = {"mean": 0.888, "interval": (0.878, 0.898), "scores": [0.888]}
    floor = {"mean": 0.859, "interval": None, "scores": [0.859]}
    outcome = {"dev": {"accuracy": summary}, "learning_rate": 3e-4, "seconds": 61.2}
    facts = {"task": "reviews", "metric": "accuracy", "model": outcome | {"test": {"accuracy": summary}}}
    facts |= {"floor": outcome | {"test": {"accuracy": floor}}, "above_floor": {"mean": 0.029, "interval": None}}
    row = table(json.loads(json.dumps({"tasks": [facts]}))).splitlines()[-1]
    assert row == "| reviews | accuracy | 88.8 ± 1.0 | 88.8 ± 1.0 |  | 85.9 | 2.9 |  |  | 0.0003 | 122 |"
    clipped = {"accuracy": summary | {"interval": (0.7, 1.0)}, "majority": {"mean": 0.512, "interval": (0.512, 0.512)}}
    facts["model"] = outcome | {"test": clipped}
    row = table(json.loads(json.dumps({"tasks": [facts]}))).splitlines()[-1]
    assert row.startswith("| reviews | accuracy | 88.8 ± 1.0 | 88.8 [70.0, 100.0] | 51.2 | 85.9 |")


def test_a_batch_is_as_large_with_four_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Trainer counts them when it first asks for its device, and feeds each of them a batch."""

    def counted(self: transformers.TrainingArguments) -> torch.device:
        if not hasattr(self, "_looked"):
            self._looked, self._n_gpu = True, 4
        return torch.device(device())

    monkeypatch.setattr(transformers.TrainingArguments, "_setup_devices", property(counted))
    made = arguments(FinetuneConfig(batch=32), str(tmp_path))
    assert made.device.type == device() and made.train_batch_size == 32
