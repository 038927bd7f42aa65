"""Export a model to a folder that opens without litebert; no GPU is needed.

    python launcher/export.py MODEL --output DIR --format hf   [--half] [--task TASK]
    python launcher/export.py MODEL --output DIR --format onnx [--half | --quantize int8] [--data SHARDS | --task TASK]

MODEL is a run or one of its checkpoints, or, for --half or --format onnx, a folder of launcher/finetune.py.

--format hf      safetensors, config and tokenizer, for transformers' Auto classes
--format onnx    model.onnx and tokenizer, for ONNX Runtime; batch and length are free
--half           weights in fp16: half the size; an ONNX file also computes in it, for GPUs
--quantize int8  a quarter of the size, and faster; what that costs is measured, printed and written down
--data SHARDS    measures it on their held-out documents rather than on five sentences
--task TASK      of a fine-tuned model: measures its score, and the file's, on the test of its task

A model card (README.md) says what the model was. The exported model is compared with the trained one on padded inputs
of several lengths: its outputs must be within 1e-4 in fp32, 2e-2 in fp16, of their largest number (small ones count as
ten times as much, or 1), or nothing is written. See docs/export.md.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from litebert.data.split import Split
from litebert.export.exported import Exported, Weights
from litebert.export.fidelity import heldout
from litebert.export.huggingface import export_huggingface
from litebert.train.trained import load_trained

INSTALL = "pip install --constraint constraints.txt --editable '.[export]'"


def main() -> int:
    """Write the folder and say how exactly it equals the trained model."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a run, of a checkpoint in it, or of a fine-tuned model")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--format", choices=["hf", "onnx"], default="hf", help="who is to open it (hf)")
    parser.add_argument("--half", action="store_true", help="weights in fp16")
    parser.add_argument("--quantize", choices=["int8"], help="onnx: weights in int8, activations as they come")
    parser.add_argument("--data", type=Path, help="shards to measure int8 on")
    parser.add_argument("--task", type=Path, help="folder of the task that a fine-tuned model is measured on")
    options = parser.parse_args()
    try:
        _check(options)
        model, exported = _finetuned(options) if _is_huggingface(options.model) else _trained(options)
    except (ValueError, OSError) as error:
        print(f"export: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"exported {model}: {exported.fidelity}")
    if exported.remark:
        print(f"export: BEWARE: {exported.remark}", file=sys.stderr)
    return 0


def _is_huggingface(model: Path) -> bool:
    return (model / "config.json").is_file()


def _check(options: argparse.Namespace) -> None:
    if options.half and options.quantize:
        raise ValueError("--half and --quantize int8 are two forms of weights: leave one of them out")
    if options.quantize and options.format != "onnx":
        raise ValueError("--quantize int8 is for --format onnx; a smaller Hugging Face folder: --half")
    if options.data and not options.quantize:
        raise ValueError("--data is what --quantize int8 is measured on; leave it out")
    finetuned = _is_huggingface(options.model)
    if finetuned and options.format == "hf" and not options.half:
        raise ValueError(f"{options.model} is a Hugging Face folder already: --half or --format onnx makes another")
    if finetuned and options.data:
        raise ValueError("--data is what a run is measured on; a fine-tuned model: --task")
    if not finetuned and options.task:
        raise ValueError("--task is what a fine-tuned model is measured on; a run: --quantize int8 --data SHARDS")
    if options.format == "onnx":
        try:
            import_module("litebert.export.onnx_folder")
        except ModuleNotFoundError as error:
            raise ValueError(f"--format onnx needs {error.name}, which is not installed: {INSTALL}") from None


def _trained(options: argparse.Namespace) -> tuple[str, Exported]:
    trained = load_trained(options.model)
    if options.format == "hf":
        exported = export_huggingface(trained, options.output, options.half)
    else:
        from litebert.export.onnx_folder import export_onnx

        text = None
        if options.data:
            split = Split(options.data, "heldout")
            if split.tokenizer_fingerprint != trained.tokenizer.fingerprint:
                raise ValueError(f"{options.data} was made with another tokenizer than {options.model}; give its own")
            text = heldout(split)
        exported = export_onnx(trained, options.output, _weights(options), text)
    return f"step {trained.step}", exported


def _finetuned(options: argparse.Namespace) -> tuple[str, Exported]:
    from transformers.utils import logging

    from litebert.finetune.export import export_finetuned

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    onnx = options.format == "onnx"
    return str(options.model), export_finetuned(options.model, options.output, _weights(options), options.task, onnx)


def _weights(options: argparse.Namespace) -> Weights:
    return options.quantize or ("fp16" if options.half else "fp32")


if __name__ == "__main__":
    sys.exit(main())
