"""Records of runs that verify cannot go by."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from launcher.verify import main
from litebert.recipe import Recipe

RECORD = {"fingerprints": {"data": "d", "tokenizer": "t"}, "recipe": Recipe.from_dict({}).to_dict(), "data": ["shards"]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "run.json: not the record of a run (JSONDecodeError"),
        (b"[]", "run.json: not the record of a run (TypeError"),
        (b"\xff", "run.json: not the record of a run (UnicodeDecodeError"),
        ({"fingerprints": None}, "run.json: not the record of a run (TypeError"),
        ({"recipe": []}, "run.json: not the record of a run (AttributeError"),
        ({"recipe": {"train": 5}}, "run.json: not the record of a run"),
        ({"recipe": {"train": {"stepps": 5}}}, "run.json: not the record of a run (recipe: "),
        ({"fingerprints": {}, "recipe": {}, "data": 5}, "run.json does not say where its data lie"),
        (b'{"recipe": {}, "data": ["shards"]}', "run.json: not the record of a run (KeyError"),
        ({"data": 5}, "run.json does not say where its data lie: give them as --data SHARDS"),
        ({"data": [5]}, "run.json does not say where its data lie: give them as --data SHARDS"),
        ({}, "shards"),
    ],
)
def test_a_damaged_record_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: object, words: str
) -> None:
    text = content if isinstance(content, bytes) else json.dumps(RECORD | content).encode()  # type: ignore[operator]
    (tmp_path / "run.json").write_bytes(text)
    (tmp_path / "ledger.bin").touch()
    monkeypatch.setattr(sys, "argv", ["verify.py", str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    line = capsys.readouterr().err
    assert line.startswith("verify: ") and words in line and line.count("\n") == 1, line
