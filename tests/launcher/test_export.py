"""The command that exports a fine-tuned model, and what it refuses in a line."""

from __future__ import annotations

import json
import sys

import pytest

import launcher.export
from data_tools.text.wordpiece import WordPiece
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.model_folder import finetune
from litebert.finetune.tasks import Task
from tests.litebert.finetune.made_up import made_model, made_task

QUICK = FinetuneConfig(epochs=0, seeds=1, learning_rates=(1e-3,), precision="fp32")


def export(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["export.py", *map(str, arguments)])
    return launcher.export.main()


def test_a_fine_tuned_model_is_exported_and_measured(wordpiece_folder, tmp_path, monkeypatch, capsys):
    task, source, output = made_task(tmp_path / "task", "pair"), tmp_path / "finetuned", tmp_path / "new"
    tokenizer = WordPiece((wordpiece_folder / WordPiece.FILE).read_bytes(), "test")
    with Candidate.opened(made_model(tmp_path / "model", tokenizer, spread=0.3)) as candidate:
        finetune(candidate, Task.read(task), QUICK, tmp_path / "trials", None, source)
    capsys.readouterr()
    onnx = ["--format", "onnx"]
    for arguments, said in (
        ([source], "is a Hugging Face folder already: --half or --format onnx makes another"),
        ([source, *onnx, "--half", "--quantize", "int8"], "--half and --quantize int8 are two forms of weights: leave"),
        ([source, *onnx, "--quantize", "int8", "--data", tmp_path], "a fine-tuned model: --task"),
        ([source, *onnx, "--task", tmp_path], "no task: it has no train.jsonl"),
        ([tmp_path / "model", *onnx], "model: it has no litebert.json of a fine-tuned model: give a run"),
        ([tmp_path, *onnx, "--task", task], "--task is what a fine-tuned model is measured on; a run: --quantize int8"),
        ([tmp_path, *onnx], "not a run folder (no run.json)"),
    ):
        assert export(monkeypatch, *arguments, "--output", output) == 2
        line = capsys.readouterr().err
        assert line.startswith("export: ") and said in line and line.count("\n") == 1, line
        assert not output.exists()
    assert export(monkeypatch, source, *onnx, "--task", task, "--output", output) == 0
    scores = json.loads((output / "litebert.json").read_text())["export"]["test"]
    assert (
        scores["file"]
        == scores["model"]
        == json.loads((source / "litebert.json").read_text())["scores"]["test"]["accuracy"]
    )
    assert f"exported {source}: accuracy {scores['file']:.1%} on the test of task" in capsys.readouterr().out
    files = {path.name for path in output.iterdir()}
    assert {"model.onnx", "config.json", "tokenizer.json", "litebert.json", "README.md"} <= files
    assert not [name for name in files if name.endswith((".safetensors", ".bin"))]
    assert export(monkeypatch, source, "--half", "--task", task, "--output", tmp_path / "half") == 0
    assert "accuracy" in capsys.readouterr().out
    assert export(monkeypatch, source, *onnx, "--half", "--task", task, "--output", tmp_path / "onnx16") == 0
    assert "accuracy" in capsys.readouterr().out
    record = json.loads((tmp_path / "onnx16" / "litebert.json").read_text())["export"]
    assert record["form"] == "ONNX, opset 17, fp16" and record["library"] == "onnx"
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "half", source)]
    assert 0.4 * sizes[1] < sizes[0] < 0.6 * sizes[1]
