"""A tiny model that commands take, and a cache of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.text.wordpiece import WordPiece
from tests.litebert.finetune.made_up import made_model


@pytest.fixture
def model(wordpiece_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LITEBERT_CACHE", str(tmp_path / "cache"))
    tokenizer = WordPiece((wordpiece_folder / WordPiece.FILE).read_bytes(), "test")
    return str(made_model(tmp_path / "model", tokenizer))
