"""A run's model as a folder for ONNX Runtime, proven equal, or in int8 measured, before it gets its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from litebert.cloze import every_token
from litebert.data.batch import MicroBatch
from litebert.export.card import write_card
from litebert.export.exported import Exported, Weights
from litebert.export.fidelity import measure
from litebert.export.folder import new_folder
from litebert.export.huggingface import Outputs, write_huggingface
from litebert.export.onnx_file import OnnxFile, processor_of_int8
from litebert.export.onnx_graph import SAMPLES, TOKENS, form_of, halve, quantize, tie, trace
from litebert.export.parity import INPUTS, OUTPUTS, Answer, largest_difference, proven
from litebert.model.encoder import ModelConfig
from litebert.train.trained import Trained

LOADING = """\
import onnxruntime
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{folder}")
session = onnxruntime.InferenceSession("{folder}/model.onnx", providers=["CPUExecutionProvider"])
inputs = tokenizer(["今天天气很[MASK]。", "老师[MASK]学生研究历史。"], padding=True, return_tensors="np")
logits, hidden = session.run(["logits", "last_hidden_state"], dict(inputs))
print(tokenizer.decode(logits[inputs["input_ids"] == tokenizer.mask_token_id].argmax(-1)))
"""


def export_onnx(
    trained: Trained, output: Path, weights: Weights = "fp32", text: Iterable[MicroBatch] | None = None
) -> Exported:
    """Write model.onnx, the tokenizer, config.json and a model card into a new folder.

    Args:
        weights: what they are kept as; int8 after the model is proven equal in fp32.
        text: masked text that the quantised model is measured on; without it, five sentences of our own.

    Returns:
        what was written, and how exactly its model equals the trained one, with a remark where int8 is far from it.

    Raises:
        ValueError: the folder exists, the model is too large for the format, or the two models differ by more than the
            tolerance; then nothing is written.
    """
    config = trained.model.config
    with new_folder(output) as folder:
        path = folder / "model.onnx"
        write_huggingface(trained, folder)
        _trace(folder, config, path)
        (folder / "model.safetensors").unlink()
        if weights != "int8":
            tie(path)
        if weights == "fp16":
            halve(path)
        difference = largest_difference(trained.model, _answer(path))
        exported = Exported(form_of(weights), "onnx", proven(difference, half=weights == "fp16"))
        if weights == "int8":
            quantize(path)
            text = [every_token(trained.tokenizer, config.max_positions)] if text is None else text
            found = measure(trained.model, _answer(path), text)
            fidelity = f"{found}; before int8, {exported.fidelity}"
            exported = replace(exported, fidelity=fidelity, processor=processor_of_int8(), remark=found.remark)
        write_card(folder, trained, exported, LOADING.format(folder=output.name))
    return exported


def _trace(folder: Path, config: ModelConfig, path: Path) -> None:
    """Write the file. The model that it is traced from is gone with the return."""
    model = Outputs(folder, config)
    model.model.set_attn_implementation("eager")  # plain operations, which ONNX Runtime knows how to fuse
    inputs = [name for name in INPUTS if name != "token_type_ids" or config.token_types > 1]  # that its tokenizer gives
    free = dict.fromkeys(OUTPUTS, TOKENS) | {"pair_logits": SAMPLES}
    trace(model, inputs, {name: free[name] for name in OUTPUTS if name != "pair_logits" or config.pooler}, path)


def _answer(path: Path) -> Answer:
    """What ONNX Runtime makes of a file."""
    file = OnnxFile(path)
    return lambda inputs: list(file(**inputs).values())
