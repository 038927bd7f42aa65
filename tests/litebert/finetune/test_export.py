"""From a fine-tuned folder to an ONNX file that gives its logits, where litebert is not, and scores what it says."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from data_tools.text.huggingface import save_tokenizer
from data_tools.text.wordpiece import WordPiece
from litebert.export import parity
from litebert.export.exported import Weights
from litebert.export.onnx_file import processor_of_int8
from litebert.finetune import export
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.examples import KINDS, Question
from litebert.finetune.export import export_finetuned
from litebert.finetune.model_folder import RECORD, finetune
from litebert.finetune.tasks import Task
from litebert.finetune.trial import family_of
from tests.litebert.finetune.made_up import made_task

BATCH = 16
LEARNING = FinetuneConfig(epochs=4, batch=BATCH, learning_rates=(3e-3,), seeds=1, precision="fp32")
UNLEARNT = dataclasses.replace(LEARNING, epochs=0)
FAMILIES: dict[str, Any] = {
    "bert": transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, initializer_range=0.3
    ),
    "albert": transformers.AlbertConfig(
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
    ),
    "distilbert": transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.3),
}
STRANGER = """\
import json, re, sys
sys.modules["litebert"] = sys.modules["data_tools"] = sys.modules["launcher"] = None  # as if they were not there
import onnxruntime
from transformers import AutoTokenizer
for folder, texts in json.loads(sys.argv[1]).items():
    tokenizer = AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    inputs = tokenizer(*texts, padding=True, return_tensors="np")
    assert {each.name for each in session.get_inputs()} == set(inputs), folder
    outputs = session.run(None, dict(inputs))
    print(json.dumps({each.name: found.tolist() for each, found in zip(session.get_outputs(), outputs)}))
    exec(re.search("```python\\n(.*?)```", open(f"{folder}/README.md").read(), re.DOTALL)[1])  # prints a line
"""


def encoder(folder: Path, config: Any, tokenizer: WordPiece, **sizes: int) -> Path:
    """A Hugging Face folder of random weights."""
    config = type(config).from_dict(
        config.to_dict() | {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 96, **sizes}
    )
    torch.manual_seed(0)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder, max_length=96, token_types=config.model_type != "distilbert")
    return folder


@pytest.fixture(scope="module")
def wordpiece(wordpiece_folder: Path) -> WordPiece:
    return WordPiece((wordpiece_folder / WordPiece.FILE).read_bytes(), "test")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("tasks")
    return cache(lambda kind: made_task(folder / kind, kind))


@pytest.fixture(scope="module")
def finetuned(wordpiece, task, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of launcher/finetune.py; of what has not learnt, measured on few examples."""
    folder = tmp_path_factory.mktemp("finetuned")
    encoders = cache(lambda family: encoder(folder / family, FAMILIES[family], wordpiece))

    @cache
    def made(family: str, kind: str, config: FinetuneConfig = UNLEARNT) -> Path:
        output, read = folder / f"{family}-{kind}-{config.epochs}", Task.read(task(kind))
        if not config.epochs:
            read = dataclasses.replace(read, dev=read.dev[:4], test=read.test[:4])
        with Candidate.opened(encoders(family)) as candidate:
            finetune(candidate, read, config, folder / "trials", None, output)
        return output

    return made


@pytest.fixture(scope="module")
def exported(finetuned, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("exported")

    def made(family: str, kind: str, weights: Weights = "fp32") -> Path:
        output = folder / f"{family}-{kind}-{weights}"
        if not output.exists():
            export_finetuned(finetuned(family, kind), output, weights)
        return output

    return made


def texts_of(task: Path) -> list[list[str]]:
    """Some texts, of unequal lengths, and of pairs and spans the others."""
    examples = Task.read(task).test[:5]
    pairs = [
        [one.question, one.context] if isinstance(one, Question) else [one.text, getattr(one, "other", None)]
        for one in examples
    ]
    return [list(column) for column in zip(*pairs, strict=True) if column[0] is not None]


def logits_of(folder: Path, kind: str, texts: list[list[str]]) -> list[dict[str, np.ndarray]]:
    """What stock transformers makes of each, without padding."""
    auto = {"tagging": "AutoModelForTokenClassification", "span": "AutoModelForQuestionAnswering"}
    model = getattr(transformers, auto.get(kind, "AutoModelForSequenceClassification")).from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for one in zip(*texts, strict=True):
        with torch.inference_mode():
            output = model(**tokenizer(*one, return_tensors="pt"))
        found.append({name: value[0].numpy() for name, value in output.items()})
    return found


def assert_logits(said: dict[str, Any], expected: list[dict[str, np.ndarray]], limit: float = 1e-4) -> None:
    """Padded outputs equal those without padding, as far as these reach."""
    for number, one in enumerate(expected):
        assert said.keys() == one.keys()
        for name, mine in one.items():
            theirs = np.array(said[name][number])[: len(mine)]
            assert mine.std() > 0.05, "or every model would give the same"
            np.testing.assert_allclose(theirs, mine, rtol=0, atol=limit * max(1, np.abs(mine).max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("weights", "limit"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_a_file_gives_the_logits_of_the_model(weights, limit, family, kind, finetuned, exported, task):
    folder, texts = exported(family, kind, weights), texts_of(task(kind))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(*texts, padding=True, return_tensors="np")
    assert {each.name for each in session.get_inputs()} == set(inputs)
    assert ("token_type_ids" in inputs) == (family != "distilbert") and not inputs["attention_mask"].all()
    names = [each.name for each in session.get_outputs()]
    said = dict(zip(names, session.run(names, dict(inputs)), strict=True))
    assert {values.dtype for values in said.values()} == {np.dtype(np.float32)}
    assert_logits(said, logits_of(finetuned(family, kind), kind, texts), limit)


def test_a_stranger_opens_every_kind_and_runs_its_card(exported, finetuned, task, tmp_path):
    cases = dict(zip(KINDS, ("bert", "albert", "distilbert", "bert"), strict=True))
    asked = {str(exported(family, kind)): texts_of(task(kind)) for kind, family in cases.items()}
    (tmp_path / "stranger.py").write_text(STRANGER)
    done = subprocess.run(
        [sys.executable, tmp_path / "stranger.py", json.dumps(asked)],
        capture_output=True, text=True, cwd=exported("bert", "span").parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, (kind, family) in zip(lines[::2], cases.items(), strict=True):
        assert_logits(json.loads(line), logits_of(finetuned(family, kind), kind, texts_of(task(kind))))
    printed = dict(zip(cases, lines[1::2], strict=True))
    assert {printed["sentence"], printed["pair"]} <= {"0", "1"}
    assert set(json.loads(printed["tagging"].replace("'", '"'))) <= {"O", "B-person", "I-person", "B-place", "I-place"}
    assert all(place.isdecimal() for place in printed["span"].strip("()").split())


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_keeps_no_words_and_no_matrix_in_fp32(family, finetuned, tmp_path):
    fidelity = export_finetuned(finetuned(family, "sentence"), tmp_path / "int8", weights="int8").fidelity
    assert fidelity.startswith("what int8 costs was not measured (--task TASK does); before int8, outputs within")
    assert fidelity in (tmp_path / "int8" / "README.md").read_text()
    graph = onnx.load(tmp_path / "int8" / "model.onnx").graph
    matrices = {weight.name: weight for weight in graph.initializer if len(weight.dims) == 2}
    width = 16 if family == "albert" else 32
    kept = {tuple(one.dims) for one in matrices.values() if one.data_type == onnx.TensorProto.FLOAT}
    words = matrices["codes"]
    assert words.data_type == onnx.TensorProto.INT8 and words.dims[1] == width
    positions, scales, types = (96, width), (words.dims[0], 1), (2, width)
    assert kept == {positions, scales, *[types] * (family != "distilbert")}
    assert not [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in matrices]


def test_words_in_int8_are_within_half_a_step_of_the_models(finetuned, tmp_path):
    export_finetuned(finetuned("bert", "pair"), tmp_path / "int8", weights="int8")
    model = onnx.load(tmp_path / "int8" / "model.onnx")
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    words = transformers.AutoModel.from_pretrained(finetuned("bert", "pair")).embeddings.word_embeddings.weight
    for row, (codes, scale) in enumerate(zip(weights["codes"], weights["scales"][:, 0], strict=True)):
        mine = words[row].detach().numpy()
        np.testing.assert_allclose(codes * scale, mine, rtol=0, atol=0.5001 * scale)
        assert scale == pytest.approx(np.abs(mine).max() / 127 if mine.any() else 1)


def test_int8_is_about_a_quarter(wordpiece, task, tmp_path):
    sizes = {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 8000}
    with Candidate.opened(encoder(tmp_path / "wide", FAMILIES["bert"], wordpiece, **sizes)) as candidate:
        read = Task.read(task("sentence"))
        read = dataclasses.replace(read, dev=read.dev[:4], test=read.test[:4])
        finetune(candidate, read, UNLEARNT, tmp_path / "trials", None, tmp_path / "finetuned")
    export_finetuned(tmp_path / "finetuned", tmp_path / "int8", weights="int8")
    ratio = os.path.getsize(tmp_path / "int8/model.onnx") / os.path.getsize(tmp_path / "finetuned/model.safetensors")
    assert 0.25 < ratio < 0.29


def batches(task: Task, folder: Path) -> Iterator[tuple[list[Any], dict[str, np.ndarray], np.ndarray]]:
    """Examples of the test, padded, from the longest to the shortest: in int8 a batch is rounded together."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ones = sorted(task.test, key=lambda one: -len(tokenizer(one.text)["input_ids"]))
    for begin in range(0, len(ones), 2 * BATCH):
        part = ones[begin : begin + 2 * BATCH]
        inputs = dict(
            tokenizer([one.text for one in part], padding=True, return_tensors="np", return_offsets_mapping=True)
        )
        yield part, inputs, inputs.pop("offset_mapping")


def entities(tags: list[str], offsets: np.ndarray) -> set[tuple[int, int, str]]:
    """Runs of B- and I- of a type, in characters."""
    found: list[list[Any]] = []
    previous = "O"
    for tag, (start, end) in zip(tags, offsets.tolist(), strict=True):
        if start == end:
            continue
        if tag != "O":
            if tag[0] == "I" and previous[1:] == tag[1:]:
                found[-1][1] = end
            else:
                found.append([start, end, tag[2:]])
        previous = tag.replace("B-", "I-")
    return {(start, end, kind) for start, end, kind in found}


def answers(one: Any, logits: np.ndarray, offsets: np.ndarray, labels: Sequence[str]) -> tuple[set[Any], set[Any]]:
    """What is right, and what logits say: a class, or entities."""
    if logits.ndim == 1:
        return {one.label}, {labels[int(logits.argmax())]}
    return set(one.entities), entities([labels[tag] for tag in logits.argmax(-1)], offsets)


@pytest.mark.parametrize(("family", "kind"), [("bert", "sentence"), ("distilbert", "tagging")])
def test_the_score_in_int8_is_what_the_file_scores(family, kind, finetuned, task, tmp_path):
    source, read = finetuned(family, kind, LEARNING), Task.read(task(kind))
    fidelity = export_finetuned(source, tmp_path / "int8", weights="int8", task=task(kind)).fidelity
    record = json.loads((tmp_path / "int8" / RECORD).read_text())
    scores = (export := record.pop("export"))["test"]
    assert export["processor"] == processor_of_int8() and "int8" in export["form"] and export["library"] == "onnx"
    assert record == json.loads((source / RECORD).read_text()), "of the fine-tuning"
    assert scores["model"] == record["scores"]["test"][record["metric"]]
    session = onnxruntime.InferenceSession(tmp_path / "int8" / "model.onnx", providers=["CPUExecutionProvider"])
    labels = family_of(read).outputs
    right = said = both = 0
    for examples, inputs, offsets in batches(read, source):
        for one, logits, its in zip(examples, session.run(["logits"], inputs)[0], offsets, strict=True):
            wanted, found = answers(one, logits, its, labels)
            right, said, both = right + len(wanted), said + len(found), both + len(wanted & found)
    assert scores["file"] == pytest.approx(2 * both / (right + said)) and 0.3 < scores["file"] < 1
    file, model = scores["file"], scores["model"]
    said_so = f"{file:.1%} on the test of {kind}, the model in fp32 {model:.1%} ({100 * (file - model):+.1f} points)"
    assert fidelity.startswith(f"{record['metric']} {said_so}; before int8, outputs within")
    assert fidelity in (tmp_path / "int8" / "README.md").read_text()


@pytest.mark.parametrize(("family", "kind"), [("bert", "sentence"), ("distilbert", "tagging"), ("albert", "span")])
def test_a_fine_tuned_model_in_fp16_scores_what_it_says(family, kind, finetuned, task, tmp_path):
    source, texts = finetuned(family, kind, LEARNING), texts_of(task(kind))
    fidelity = export_finetuned(source, tmp_path / "half", "fp16", task(kind), onnx=False).fidelity
    scores = json.loads((tmp_path / "half" / RECORD).read_text())["export"]["test"]
    assert abs(scores["file"] - scores["model"]) < 0.05 and fidelity in (tmp_path / "half" / "README.md").read_text()
    for mine, theirs in zip(logits_of(source, kind, texts), logits_of(tmp_path / "half", kind, texts), strict=True):
        for name, logits in mine.items():
            assert theirs[name].dtype == np.float16
            assert 0 < np.abs(theirs[name] - logits).max() <= 2e-2 * max(1, np.abs(logits).max())
    code = re.search("```python\n(.*?)```", (tmp_path / "half" / "README.md").read_text(), re.DOTALL)
    assert code
    done = subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_a_file_that_is_not_the_model_is_not_written(finetuned, tmp_path, monkeypatch):
    def spoiled(model, *rest):
        with torch.no_grad():
            model.model.classifier.bias[1] += 1
        real(model, *rest)

    real = export.trace
    monkeypatch.setattr(export, "trace", spoiled)
    for weights in ("fp32", "fp16", "int8"):
        with pytest.raises(ValueError, match=r"outputs differ from the trained one's by .* nothing is written"):
            export_finetuned(finetuned("bert", "tagging"), tmp_path / "export", weights)
    monkeypatch.setattr(export, "trace", real)
    monkeypatch.setattr(parity, "FP32_TOLERANCE", 1e-9)
    with pytest.raises(ValueError, match=r"\(> 1e-09\), \S+ absolute: nothing is written$"):
        export_finetuned(finetuned("bert", "tagging"), tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_a_file_that_scores_much_less_is_remarked(finetuned, task, tmp_path, monkeypatch):
    source = finetuned("bert", "sentence", LEARNING)
    for scores, remarked in (((0.8, 0.79), False), ((0.8, 0.5), True)):
        monkeypatch.setattr(export.Finetuned, "scores", lambda *_, scores=scores: list(scores))
        output = tmp_path / str(scores)
        exported = export_finetuned(source, output, weights="int8", task=task("sentence"))
        assert exported.remark.startswith("the file scores 30.0 points less than the model: leave out --q") == remarked
        assert json.loads((output / RECORD).read_text())["export"]["remark"] == exported.remark
        assert (f"| beware | {exported.remark} |" in (output / "README.md").read_text()) == remarked


@pytest.mark.parametrize("half", [False, True])
def test_a_card_cuts_what_is_too_long_and_names_its_library_and_base(half, finetuned, tmp_path, monkeypatch, capsys):
    export_finetuned(finetuned("bert", "sentence"), tmp_path / "export", "fp16" if half else "fp32", onnx=not half)
    for folder in (finetuned("bert", "sentence"), tmp_path / "export"):
        card = (folder / "README.md").read_text()
        assert "| longest input | 96 tokens; fine-tuned on texts cut to 96 |" in card
        assert 'base_model: "bert"\n' in card
        library = "transformers" if half or folder != tmp_path / "export" else "onnx"
        assert f"library_name: {library}\n" in card
        code = re.search("```python\n(.*?)```", card, re.DOTALL)
        assert code
        monkeypatch.chdir(folder.parent)
        exec(code[1].replace("今天天气很好。", "今天天气很好。" * 100), {})
        assert capsys.readouterr().out.splitlines()[-1] in ("0", "1")


def test_zeros_are_no_small_logits(finetuned, tmp_path, monkeypatch):
    source = Path(shutil.copytree(finetuned("bert", "sentence"), tmp_path / "small"))
    weights = load_file(source / "model.safetensors")
    small = {name: weight * 1e-5 if name.startswith("classifier") else weight for name, weight in weights.items()}
    save_file(small, source / "model.safetensors", metadata={"format": "pt"})
    export_finetuned(source, tmp_path / "sound")

    def spoiled(model, *rest):
        torch.nn.init.zeros_(model.model.classifier.weight)
        torch.nn.init.zeros_(model.model.classifier.bias)
        real(model, *rest)

    real = export.trace
    monkeypatch.setattr(export, "trace", spoiled)
    with pytest.raises(ValueError, match=r"outputs differ from the trained one's by 0\.1 .* nothing is written$"):
        export_finetuned(source, tmp_path / "export")


def test_what_does_not_fit_is_refused(finetuned, exported, task, tmp_path):
    source = finetuned("bert", "sentence")

    def damaged(name: str, damage: Callable[[Path], object]) -> Path:
        damage(Path(shutil.copytree(source, tmp_path / name)))
        return tmp_path / name

    def pickled(folder: Path) -> None:
        torch.save({}, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()

    def saying(**other: object) -> Callable[[Path], object]:
        record = json.loads((source / RECORD).read_text())
        return lambda folder: (folder / RECORD).write_text(json.dumps(record | other))

    none = f"it has no {RECORD} of a fine-tuned model"
    for folder, said in (
        (damaged("bare", lambda folder: (folder / RECORD).unlink()), none),
        (damaged("broken", lambda folder: (folder / RECORD).write_text("{")), none),
        (damaged("list", lambda folder: (folder / RECORD).write_text("[]")), none),
        (damaged("song", saying(kind="song")), none),
        (damaged("settings", saying(settings={"epochs": -1})), none),
        (damaged("pickled", pickled), "pickled weights are not read"),
        (damaged("cut", lambda folder: os.truncate(folder / "model.safetensors", 5000)), "its weights cannot be read"),
        (exported("bert", "sentence"), "an exported ONNX file: give the folder it was made of"),
    ):
        with pytest.raises(ValueError, match=said):
            export_finetuned(folder, tmp_path / "export")
    with pytest.raises(ValueError, match=r"was fine-tuned on sentence, \w{12}: give the files of that task"):
        export_finetuned(source, tmp_path / "export", task=made_task(tmp_path / "other", "sentence", seed=1))
    with pytest.raises(ValueError, match=r"cut exists; give another --output"):
        export_finetuned(source, tmp_path / "cut")
    assert not (tmp_path / "export").exists()
