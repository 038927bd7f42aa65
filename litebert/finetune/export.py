"""A fine-tuned model as a folder for ONNX Runtime, or in fp16, proven equal, and perhaps measured, before it is named.

Shape suffixes: B = samples, L = tokens of the longest.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from litebert.export.exported import Exported, Weights
from litebert.export.folder import new_folder
from litebert.export.onnx_file import OnnxFile, processor_of_int8
from litebert.export.onnx_graph import TOKENS, form_of, halve, quantize, trace
from litebert.export.parity import furthest, proven, random_inputs
from litebert.finetune.candidate import CONFIG
from litebert.finetune.card import card
from litebert.finetune.finetuned import Finetuned
from litebert.finetune.model_folder import RECORD

FILE, HALF = "model.onnx", "safetensors, fp16"
WORST = 0.02  # of a score: what a file may lose without a remark


class Ordered(nn.Module):
    """A model of transformers whose inputs and outputs have an order."""

    def __init__(self, model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs
        self.eval()

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.inputs, values, strict=True)))
        return tuple(output[name] for name in self.outputs)


def export_finetuned(
    location: Path, output: Path, weights: Weights = "fp32", task: Path | None = None, onnx: bool = True
) -> Exported:
    """Write model.onnx, or weights in fp16, tokenizer, config.json, RECORD and a model card into a new folder.

    Args:
        location: folder that launcher/finetune.py made.
        weights: what they are kept as; int8 after the model is proven equal in fp32.
        task: folder of the task that it was fine-tuned on, to measure on its test what the model and the file score.
        onnx: whether to make an ONNX file; else a Hugging Face folder, of weights in fp16.

    Returns:
        what was written, how exactly its model equals the fine-tuned one, and what both score, with a remark where the
        file scores much less.

    Raises:
        ValueError: there is no fine-tuned model, it was fine-tuned on another task, the folder exists, the model is too
            large for the format, or the two models differ by more than the tolerance; then nothing is written.
    """
    finetuned = Finetuned.read(location)
    measured = finetuned.task(task) if task else None
    with new_folder(output) as folder:
        finetuned.candidate.tokenizer.save_pretrained(folder)  # before a measurement sets its truncation
        written = _traced(finetuned, folder, weights == "fp16") if onnx else _halved(finetuned, folder)
        model = finetuned.model()
        fidelity = proven(furthest(_compared(finetuned, model, written)), half=weights == "fp16")
        if weights == "int8":
            quantize(folder / FILE)
            written = OnnxFile(folder / FILE)
            fidelity = f"before int8, {fidelity}"
        scores, remark = None, ""
        if measured:
            scores = dict(zip(("model", "file"), finetuned.scores([model, written], measured), strict=True))
            fidelity, remark = f"{_cost(finetuned.record, scores)}; {fidelity}", _remark(scores, weights)
        elif weights == "int8":
            fidelity = f"what int8 costs was not measured (--task TASK does); {fidelity}"
        exported = Exported(
            form_of(weights) if onnx else HALF,
            "onnx" if onnx else "transformers",
            fidelity,
            processor_of_int8() if weights == "int8" and measured else "",
            remark,
        )
        _describe(folder, finetuned, model, exported, scores, output.name)
    return exported


def _traced(finetuned: Finetuned, folder: Path, half: bool) -> OnnxFile:
    """Write the file, perhaps in fp16. The model that it is traced from is gone with the return."""
    shutil.copyfile(finetuned.candidate.location / CONFIG, folder / CONFIG)
    model = finetuned.model()
    model.set_attn_implementation("eager")  # plain operations, which ONNX Runtime knows how to fuse
    inputs, outputs = finetuned.inputs(model), finetuned.outputs
    trace(Ordered(model, inputs, list(outputs)), inputs, outputs, folder / FILE)
    if half:
        halve(folder / FILE)
    return OnnxFile(folder / FILE)


def _halved(finetuned: Finetuned, folder: Path) -> Any:
    """Write the weights in fp16, and open them as a user does."""
    finetuned.model().half().save_pretrained(folder)
    return getattr(transformers, finetuned.head).from_pretrained(folder, local_files_only=True).eval()


def _compared(finetuned: Finetuned, model: Any, written: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """What the model and what was written make of random inputs, at real tokens."""
    config, names = model.config, finetuned.inputs(model)
    types = getattr(config, "type_vocab_size", 1)  # DistilBERT has none
    for inputs in random_inputs(config.vocab_size, types, finetuned.candidate.positions):
        with torch.inference_mode():
            mine, theirs = (each(**{name: inputs[name] for name in names}) for each in (model, written))
        valid_BL = inputs["attention_mask"].bool()
        for name, free in finetuned.outputs.items():
            real = valid_BL if free == TOKENS else slice(None)
            yield mine[name][real], theirs[name][real]


def _cost(record: Mapping[str, Any], scores: Mapping[str, float]) -> str:
    points = 100 * (scores["file"] - scores["model"])
    return (
        f"{record['metric']} {scores['file']:.1%} on the test of {record['task']}, the model in fp32 "
        f"{scores['model']:.1%} ({points:+.1f} points)"
    )


def _remark(scores: Mapping[str, float], weights: Weights) -> str:
    lost = scores["model"] - scores["file"]
    if lost <= WORST:
        return ""
    return (
        f"the file scores {100 * lost:.1f} points less than the model: leave out "
        f"{'--half' if weights == 'fp16' else '--quantize int8'}, or use another model"
    )


def _describe(
    folder: Path, finetuned: Finetuned, model: Any, exported: Exported, scores: Mapping[str, float] | None, name: str
) -> None:
    """Write RECORD and the model card."""
    positions, facts = finetuned.candidate.positions, {**finetuned.facts, **exported.facts}
    said = {**dataclasses.asdict(exported), "test": scores}
    record = json.dumps({**finetuned.record, "export": said}, ensure_ascii=False, indent=1)
    (folder / RECORD).write_text(record + "\n", encoding="utf-8")
    text = card(finetuned.record, model, positions, facts, name, exported.library)
    (folder / "README.md").write_text(text, encoding="utf-8")
