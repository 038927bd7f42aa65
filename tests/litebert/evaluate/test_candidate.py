"""What is no model to fine-tune is refused when it is opened, or when its weights are read."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from litebert.evaluate.candidate import Candidate


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
