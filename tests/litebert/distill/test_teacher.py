"""A teacher says what its model says in Hugging Face, has the data's vocabulary, and is known by a fingerprint."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from data_tools.text.tokenizer import Tokenizer
from litebert.data.batch import Counts, MicroBatch
from litebert.data.split import Split
from litebert.distill.sources import Live
from litebert.distill.states import Wanted
from litebert.distill.targets import Dense
from litebert.distill.teacher import Teacher, fingerprint, usual_precision
from litebert.export.huggingface import export_huggingface
from litebert.model.attention import Packing
from litebert.recipe import parse_command
from litebert.train.checkpoint import Retention, publish
from litebert.train.initial import initial_model
from litebert.train.run import RunFolder
from litebert.train.trained import load_trained

LENGTHS = (3, 7, 12)
_SIMBERT = "shared/models/simbert-tiny-zh"
SIMBERT = next((found for folder in Path(__file__).parents if (found := folder / _SIMBERT).exists()), None)
SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40}


def read(location: Path, pieces: tuple[str, ...]) -> Teacher:
    return Teacher.load(location, pieces)


def batch(vocab_size: int) -> MicroBatch:
    chance = torch.Generator().manual_seed(2)
    packing = Packing.of(LENGTHS)
    return MicroBatch(
        ids=torch.randint(vocab_size, (packing.tokens,), generator=chance),
        token_types=torch.cat([torch.arange(length) > length // 2 for length in LENGTHS]).long(),
        packing=packing,
        masked=torch.tensor([1, 4, 9, 11, 20]),
        labels=torch.randint(vocab_size, (5,), generator=chance),
        order=torch.tensor([-1, 0, 1]),
        counts=Counts(packing.tokens, 3, 5, 2),
    )


def padded(batch: MicroBatch, of: Tensor) -> Tensor:
    """As Hugging Face's models take them: [B, L]."""
    return torch.nn.utils.rnn.pad_sequence(list(of.split(LENGTHS)), batch_first=True)


def hugging_face(kind: str, folder: Path, vocab_size: int) -> transformers.PreTrainedModel:
    torch.manual_seed(4)
    if kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=vocab_size, dim=24, n_layers=3, n_heads=2, hidden_dim=40, max_position_embeddings=32
        )
        model = transformers.DistilBertForMaskedLM(config)
    elif kind == "albert":
        config = transformers.AlbertConfig(
            vocab_size=vocab_size, embedding_size=16, **SIZES, max_position_embeddings=32
        )
        model = transformers.AlbertForPreTraining(config)
    else:
        config = transformers.BertConfig(vocab_size=vocab_size, **SIZES, max_position_embeddings=32)
        model = {"bert": transformers.BertForPreTraining, "roberta-zh": transformers.BertForMaskedLM}[kind](config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("kind", ["bert", "roberta-zh", "albert", "distilbert"])
def test_it_says_what_hugging_face_says(kind: str, wordpiece_folder: Path, tmp_path: Path) -> None:
    pieces = load_tokenizer(wordpiece_folder).pieces
    shutil.copy(wordpiece_folder / "vocab.txt", tmp_path / "vocab.txt")
    theirs = hugging_face(kind, tmp_path, len(pieces))
    teacher = read(tmp_path, pieces)
    one = batch(len(pieces))
    pairs = kind in ("bert", "albert")
    told = Live([teacher], Wanted(layers=(2, 3), pairs=pairs, hidden_everywhere=True), 2.0)(one)
    mask = padded(one, torch.ones_like(one.ids))
    types = {} if kind == "distilbert" else {"token_type_ids": padded(one, one.token_types)}
    with torch.no_grad():
        output = theirs(
            input_ids=padded(one, one.ids), attention_mask=mask, **types, output_hidden_states=True, return_dict=True
        )
    logits = output["prediction_logits" if pairs else "logits"][mask.bool()][one.masked]
    assert isinstance(told.words, Dense)
    logs = F.linear(told.words.rows_MD, told.words.weight_VD, told.words.bias_V).log_softmax(-1)
    torch.testing.assert_close(logs, logits.log_softmax(-1), rtol=0, atol=2e-5)
    for layer in (2, 3):
        torch.testing.assert_close(told.hidden_RH[layer], output.hidden_states[layer][mask.bool()], rtol=0, atol=2e-5)
    if pairs:
        expected = output["sop_logits" if kind == "albert" else "seq_relationship_logits"]
        torch.testing.assert_close(told.pairs_B2, expected, rtol=0, atol=2e-5)


def test_it_answers_the_same_whatever_is_read_beside(wordpiece_folder: Path, tmp_path: Path) -> None:
    """The last layer for some rows, or for all."""
    pieces = load_tokenizer(wordpiece_folder).pieces
    shutil.copy(wordpiece_folder / "vocab.txt", tmp_path / "vocab.txt")
    hugging_face("bert", tmp_path, len(pieces))
    teacher, one = read(tmp_path, pieces), batch(len(pieces))
    few = Live([teacher], Wanted(layers=(1, 3)), 1.0)(one)
    many = Live([teacher], Wanted(words_everywhere=True, layers=(1, 3), hidden_everywhere=True, relations=True), 1.0)(
        one
    )
    assert isinstance(few.words, Dense) and isinstance(many.words, Dense)
    torch.testing.assert_close(few.words.rows_MD, many.words.rows_MD[one.masked], rtol=0, atol=1e-5)
    for layer in (1, 3):
        torch.testing.assert_close(few.hidden_RH[layer], many.hidden_RH[layer][one.masked], rtol=0, atol=1e-5)
    assert few.pairs_B2 is few.qkv_TH is None and many.qkv_TH is not None
    assert not few.words.rows_MD.requires_grad and not few.hidden_RH[1].requires_grad


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two checkpoints."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    shape = {"hidden_size": 24, "embedding_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 40}
    sizes = [f"--model.{name}={value}" for name, value in shape.items()]
    recipe = parse_command(["--data", str(shards), "--run", str(folder), *sizes], "").recipe
    split = Split(shards, "train")
    run_folder = RunFolder(
        folder, {"data": split.fingerprint, "tokenizer": split.tokenizer_fingerprint}, recipe, [str(shards)]
    )
    run_folder.prepare(shards / "tokenizer")
    model = initial_model(recipe, split)
    for step in (5, 10):
        weights = {f"model.{name}": tensor + step / 100 for name, tensor in model.state_dict().items()}
        publish(folder, step, {"weights": weights}, run_folder.record, Retention(2))
    return folder


def test_a_run_one_of_its_checkpoints_and_its_export_can_teach(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    newest = read(run, tokenizer.pieces)
    exported = tmp_path / "export"
    export_huggingface(load_trained(run), exported)
    assert newest.fingerprint == read(run / "checkpoints/step-00000010", tokenizer.pieces).fingerprint
    assert newest.fingerprint == read(exported, tokenizer.pieces).fingerprint
    older = read(run / "checkpoints/step-00000005", tokenizer.pieces)
    assert older.fingerprint != newest.fingerprint
    (exported / "tokenizer.model").unlink()  # what is left is Hugging Face's own file
    assert read(exported, tokenizer.pieces).fingerprint == newest.fingerprint


def test_a_fingerprint_is_of_every_weight(run: Path, tokenizer: Tokenizer) -> None:
    model = load_trained(run).model
    before = {fingerprint(model)}
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        before.add(fingerprint(model))
    assert len(before) == 1 + len(list(model.parameters()))


def test_another_vocabulary_is_refused_with_the_first_differences(run: Path, tokenizer: Tokenizer) -> None:
    own = list(tokenizer.pieces)
    own[7], own[9] = own[9], own[7]
    with pytest.raises(ValueError) as caught:
        read(run, tuple(own))
    message = str(caught.value)
    assert f"7 is {own[9]!r} there, {own[7]!r} here; 9 is {own[7]!r} there, {own[9]!r} here" in message
    assert "more" not in message and "\n" not in message
    with pytest.raises(ValueError, match=r"\(300 entries, 290 here\): 290 is .* there, None here; .*, and 7 more"):
        read(run, tokenizer.pieces[:290])


def test_what_is_no_teacher_is_refused(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no teacher"):
        read(tmp_path, tokenizer.pieces)
    hugging_face("bert", tmp_path, 300)
    with pytest.raises(ValueError, match=r"none of .*, tokenizer\.json, which say what its ids mean"):
        read(tmp_path, tokenizer.pieces)
    hugging_face("bert", tmp_path, 310)
    save_tokenizer(tokenizer, tmp_path)
    with pytest.raises(ValueError, match="its model has 310 ids, its vocabulary 300"):
        read(tmp_path, tokenizer.pieces)


@pytest.mark.parametrize(
    ("device", "has", "precision"), [("cpu", True, "fp32"), ("cuda", 1, "bf16"), ("cuda", 0, "fp32")]
)
def test_what_it_computes_in_where_nobody_says(
    device: str, has: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bool(has or including_emulation))
    assert usual_precision(torch.device(device)) == precision


def test_a_teacher_that_went_bad_is_refused(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    export_huggingface(load_trained(run), tmp_path / "export")
    weights = load_file(tmp_path / "export/model.safetensors")
    for number in (math.nan, math.inf):
        weights["albert.embeddings.LayerNorm.bias"][5] = number
        save_file(weights, tmp_path / "export/model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"export: not all of its weights are finite \(1, encoder.embeddings.norm"):
            read(tmp_path / "export", tokenizer.pieces)


@pytest.mark.skipif(SIMBERT is None, reason="no real model in shared/models")
def test_a_real_chinese_encoder_can_teach() -> None:
    assert SIMBERT is not None
    pieces = load_tokenizer(SIMBERT).pieces
    teacher = read(SIMBERT, pieces)
    theirs = transformers.AlbertForMaskedLM.from_pretrained(SIMBERT, dtype=torch.float32).eval()
    one = batch(len(pieces))
    told = Live([teacher], Wanted(), 1.0)(one)
    mask = padded(one, torch.ones_like(one.ids))
    with torch.no_grad():
        output = theirs(
            input_ids=padded(one, one.ids), attention_mask=mask, token_type_ids=padded(one, one.token_types)
        )
    assert isinstance(told.words, Dense)
    logs = F.linear(told.words.rows_MD, told.words.weight_VD, told.words.bias_V).log_softmax(-1)
    torch.testing.assert_close(logs, output.logits[mask.bool()][one.masked].log_softmax(-1), rtol=0, atol=1e-3)
