"""Export the model of a run, or of one of its checkpoints, to a folder that opens without litebert; no GPU is needed.

    python launcher/export.py RUN --output DIR --format hf   [--half]
    python launcher/export.py RUN --output DIR --format onnx [--quantize int8] [--data SHARDS]

--format hf      safetensors, config and tokenizer, for transformers' Auto classes
--half           its weights in fp16: half the size
--format onnx    model.onnx and tokenizer, for ONNX Runtime; batch and length are free
--quantize int8  a quarter of the size, and faster; what that costs is measured, printed and written down
--data SHARDS    measures it on their held-out documents rather than on five sentences

A model card (README.md) says what the run was. The exported model is compared with the trained one on padded inputs of
several lengths: its outputs must be within 1e-4 in fp32, 2e-2 in fp16, of their largest number (which counts as 1 at
least), or nothing is written. See docs/export.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from litebert.data.split import Split
from litebert.export.fidelity import heldout
from litebert.export.huggingface import export_huggingface
from litebert.train.trained import Trained, load_trained

INSTALL = "pip install --constraint constraints.txt --editable '.[export]'"


def main() -> int:
    """Write the folder and say how exactly it equals the trained model."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run, or of a checkpoint in it")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--format", choices=["hf", "onnx"], default="hf", help="who is to open it (hf)")
    parser.add_argument("--half", action="store_true", help="hf: weights in fp16")
    parser.add_argument("--quantize", choices=["int8"], help="onnx: weights in int8, activations as they come")
    parser.add_argument("--data", type=Path, help="shards to measure int8 on")
    options = parser.parse_args()
    try:
        _check(options)
        trained = load_trained(options.run)
        fidelity = _export(trained, options)
    except (ValueError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    print(f"exported step {trained.step}: {fidelity}")
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.half and options.format != "hf":
        raise ValueError("--half is for --format hf; a smaller ONNX file: --quantize int8")
    if options.quantize and options.format != "onnx":
        raise ValueError("--quantize int8 is for --format onnx; a smaller Hugging Face folder: --half")
    if options.data and not options.quantize:
        raise ValueError("--data is what --quantize int8 is measured on; leave it out")


def _export(trained: Trained, options: argparse.Namespace) -> str:
    if options.format == "hf":
        return export_huggingface(trained, options.output, options.half)
    try:
        from litebert.export.onnx_folder import export_onnx
    except ModuleNotFoundError as error:
        raise ValueError(f"--format onnx needs {error.name}, which is not installed: {INSTALL}") from None
    text = None
    if options.data:
        split = Split(options.data, "heldout")
        if split.tokenizer_fingerprint != trained.tokenizer.fingerprint:
            raise ValueError(f"{options.data} was made with another tokenizer than {options.run}; give its own shards")
        text = heldout(split)
    return export_onnx(trained, options.output, options.quantize == "int8", text)


if __name__ == "__main__":
    sys.exit(main())
