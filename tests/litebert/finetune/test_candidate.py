"""What is no model to fine-tune is refused when it is opened, or when its weights are read."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from data_tools.text.huggingface import save_tokenizer
from litebert.finetune.candidate import Candidate

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 50,
}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "its weights cannot be read: "),
        (lambda folder: (folder / "config.json").write_text("[]"), "its config.json or its tokenizer is damaged ("),
        (lambda folder: (folder / "tokenizer.json").write_text("[]"), "its config.json or its tokenizer is damaged ("),
        (lambda folder: (folder / "config.json").write_text("{"), "its config.json or its tokenizer is damaged ("),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "model.onnx"),
            "an exported ONNX file: give the folder it was made of",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "no *.safetensors in it; pickled weights are not read",
        ),
    ],
    ids=["cut", "list", "tokens", "torn", "onnx", "pickled"],
)
def test_damage_is_said_in_a_line(damage: Callable[[Path], object], said: str, candidate, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(candidate.folder, tmp_path / "model"))
    damage(folder)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{folder}: {said}')}") as raised:
        Candidate.read(folder).begun("AutoModelForSequenceClassification", ("a", "b"), random=False)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(candidate, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(candidate.folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    assert len(candidate.tokenizer) == config["vocab_size"], "as many are taken"
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] - 1}))
    with pytest.raises(ValueError, match=r"its tokenizer has \d+ ids, and its embeddings have \d+: give it"):
        Candidate.read(folder)


@pytest.mark.parametrize("family", ["Bert", "XLMRoberta"])
def test_positions_are_those_that_its_embeddings_have(family: str, wordpiece, tmp_path: Path) -> None:
    """RoBERTa's begin behind its padding's."""
    config = getattr(transformers, f"{family}Config")(**SMALL, vocab_size=wordpiece.vocab_size, pad_token_id=3)
    getattr(transformers, f"{family}ForMaskedLM")(config).save_pretrained(tmp_path)
    save_tokenizer(wordpiece, tmp_path, max_length=512)
    opened = Candidate.read(tmp_path)
    model = opened.begun("AutoModelForSequenceClassification", ("a", "b"), random=False)
    tokens = torch.full((1, opened.positions), 5)
    assert model(tokens).logits.shape == (1, 2) and opened.positions > 40
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.cat([tokens, tokens[:, :1]], 1))


def test_families_without_positions_are_refused_in_a_line(wordpiece, tmp_path: Path) -> None:
    config = transformers.XLNetConfig(vocab_size=wordpiece.vocab_size, d_model=16, n_layer=1, n_head=2, d_inner=16)
    transformers.XLNetModel(config).save_pretrained(tmp_path)
    save_tokenizer(wordpiece, tmp_path, max_length=96)
    with pytest.raises(
        ValueError, match=r"a model of type xlnet has no fixed positions: give ALBERT, BERT, .* or XLM-R$"
    ):
        Candidate.read(tmp_path)
