"""Size, memory and speed of encoders, a teacher's and its students', in every form they are exported in.

python benchmarks/inference.py MODEL... [--threads 1 2] [--lengths 32 128 512] [--output FILE.json]

A model is a run of this project or one of its checkpoints, which is exported into a temporary folder; a Hugging Face
folder; or a folder of a run's exported ONNX file. Their forms, the first two in PyTorch, all but the last in fp32:

- litebert: our encoder, unpadded;        - onnx: ONNX Runtime;
- transformers: AutoModel;                - onnx int8: the same, quantised as `--quantize int8` does.

What is timed is what a user of an encoder runs, ids to last hidden states, without the masked-word head: of an ONNX
file the part that leads there. Tokenizing is not in it. All samples of a batch have the length, so that none is padded.

- parameters: of the encoder, embeddings and layers, without heads; what layers share counts once;
- MB: of the weights' file as it is exported, heads included; a line says where that is of fp16, as `--half` makes it:
  what is timed computes in fp32 all the same;
- memory: MB that a fresh process has had at most once it has loaded the encoder and run one batch, of 32 samples of 128
  tokens (or the model's longest), and had before it opened the encoder, with its libraries imported (transformers
  imports some later). With the first number of --threads;
- latency at batch 1 and throughput at batch 32, of wall time: medians and quartiles. Each form of each model has its
  own process, and they are asked in turn, so that what slows the machine for a while slows all of them;
- ratios to the first model in the same form.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import torch
import transformers
from safetensors import safe_open

from litebert.evaluate.output import check
from litebert.export.huggingface import export_huggingface
from litebert.export.onnx_folder import export_onnx
from litebert.finetune.candidate import Candidate
from litebert.markdown import markdown
from litebert.plan.processor import processor
from litebert.report.figures import KINDS
from litebert.train.commit import commit
from litebert.train.run import write
from litebert.train.trained import load_trained

ROOT = Path(__file__).parents[1]
FORMS = ("litebert", "transformers", "onnx", "onnx int8")
HIDDEN = "last_hidden_state"  # the output of a file that is timed
BATCH = 32
MEMORY_LENGTH = 128
CALLS = 5  # of a turn at batch 1, after one that is not counted
QUARTILES = (25, 50, 75)


@dataclasses.dataclass(frozen=True)
class Model:
    """An encoder to measure.

    Attributes:
        path: where the user has it.
        fingerprint: of a run or checkpoint, as launcher/evaluate.py has it; None of others.
        parameters: of the encoder.
        positions: tokens of its longest input.
        vocab_size: number of ids.
        stored: precision of the weights' file, in safetensors' words (F32); empty of an ONNX file.
        files: by form, what its process opens.
        megabytes: by form, of the weights as they are exported.
    """

    path: Path
    fingerprint: str | None
    parameters: int
    positions: int
    vocab_size: int
    stored: str
    files: dict[str, Path]
    megabytes: dict[str, float]

    @classmethod
    def of(cls, path: Path, folder: Path) -> Model:
        """Opens a model, with a new folder for what is made of it. Raises ValueError where there is none."""
        folder.mkdir()
        if (path / "model.onnx").is_file():
            return cls._described(path, path, {_precision(path): path}, folder)
        if (path / "config.json").is_file():
            return cls._described(path, path, {"litebert": path, "transformers": path}, folder)
        if not any((path / name).is_file() for name in ("run.json", "checkpoint.json")):
            raise ValueError(
                f"{path}: no model (no run.json, checkpoint.json, config.json or model.onnx): give a run, a checkpoint "
                "of one, a Hugging Face folder, or a folder of an exported ONNX file"
            )
        trained = load_trained(path)
        export_huggingface(trained, folder / "hf")
        export_onnx(trained, folder / "onnx")
        export_onnx(trained, folder / "int8", weights="int8")
        made = dict(zip(FORMS, (folder / name for name in ("hf", "hf", "onnx", "int8")), strict=True))
        model = cls._described(path, folder / "hf", made, folder)
        return dataclasses.replace(model, fingerprint=Candidate.read(folder / "hf").fingerprint)

    @classmethod
    def _described(cls, path: Path, described: Path, folders: dict[str, Path], made: Path) -> Model:
        """``described``: a folder with its config.json; ``made``: where what is cut out of ONNX files is kept."""
        config = transformers.AutoConfig.from_pretrained(described, local_files_only=True)
        with torch.device("meta"):
            shape = transformers.AutoModel.from_config(config)
        sizes = {name: weight.numel() for name, weight in shape.named_parameters() if "pooler" not in name}
        files, megabytes = {}, {}
        for form, folder in folders.items():
            is_onnx = (folder / "model.onnx").is_file()
            files[form] = _encoder(folder, made / f"{form}.onnx") if is_onnx else folder
            weights = folder.glob("model.onnx" if is_onnx else "*.safetensors")
            megabytes[form] = sum(file.stat().st_size for file in weights) / 1e6
        limits = config.max_position_embeddings, config.vocab_size
        return cls(path, None, sum(sizes.values()), *limits, _stored(described), files, megabytes)


def _stored(folder: Path) -> str:
    """Precision of its largest tensor, which is that of all matrices."""
    found: dict[int, str] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            slices = [file.get_slice(name) for name in file.offset_keys()]
            found |= {math.prod(part.get_shape()): str(part.get_dtype()) for part in slices}
    return found[max(found)] if found else ""


def _precision(folder: Path) -> str:
    nodes = onnx.load(folder / "model.onnx").graph.node
    return "onnx int8" if any(node.op_type == "DynamicQuantizeLinear" for node in nodes) else "onnx"


def _encoder(folder: Path, encoder: Path) -> Path:
    """The part of an exported file that gives the hidden states: ONNX Runtime computes every output a file has."""
    graph = onnx.load(folder / "model.onnx").graph
    if HIDDEN not in (value.name for value in graph.output):
        raise ValueError(
            f"{folder}: its model.onnx gives no {HIDDEN}, as that of a fine-tuned model does not: give the export of a "
            "run, or a Hugging Face folder"
        )
    onnx.utils.extract_model(str(folder / "model.onnx"), str(encoder), [value.name for value in graph.input], [HIDDEN])
    return encoder


class Encoder:
    """A model in one of its forms, in a process of its own (encoders.py).

    Attributes:
        name, form: of which model, in which form.
        positions: tokens of its longest input.
        memory: MB, ``peak`` and of them ``libraries``.
    """

    def __init__(self, name: str, model: Model, form: str, threads: int) -> None:
        self.name, self.form, self.positions = name, form, model.positions
        arguments = (threads, model.vocab_size, BATCH, min(MEMORY_LENGTH, model.positions))
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks/encoders.py"), form, str(model.files[form]), *map(str, arguments)],
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.memory: dict[str, float] = self._answer()

    def seconds(self, batch: int, length: int, calls: int) -> list[float]:
        """Of each call."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps([batch, length, calls])}\n")
        self._process.stdin.flush()
        found: list[float] = self._answer()
        return found

    def end(self) -> None:
        """Ends its process."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise ValueError(f"{self.name}, {self.form}: its process ended ({self._process.wait()}), see above")
        return json.loads(line)


def timed(
    encoders: Sequence[Encoder], lengths: Sequence[int], repeats: int, batches: int
) -> dict[tuple[str, str, int, int], list[float]]:
    """Seconds by name, form, batch and length: of each length that a model takes, in turn."""
    found: dict[tuple[str, str, int, int], list[float]] = defaultdict(list)
    for batch, turns, calls in ((1, repeats, CALLS), (BATCH, batches, 1)):
        for length in lengths:
            able = [encoder for encoder in encoders if length <= encoder.positions]
            for turn in range(turns + 1):  # the first warms up
                for encoder in able:
                    if batch == 1:  # its caches are another's by now
                        encoder.seconds(batch, length, 1)
                    seconds = encoder.seconds(batch, length, calls)
                    if turn:
                        found[encoder.name, encoder.form, batch, length] += seconds
    return found


def measure(models: dict[str, Model], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The figures of each model, by name. Speeds are by form with its threads, and by length: quartiles."""
    found: dict[str, dict[str, Any]] = {
        name: {
            "path": str(model.path),
            "fingerprint": model.fingerprint,
            "parameters": model.parameters,
            "max_positions": model.positions,
            "stored": model.stored,
            "megabytes": {form: round(size, 2) for form, size in model.megabytes.items()},
            **{key: {} for key in ("peak_megabytes", "library_megabytes", "latency_ms", "samples_per_s")},
        }
        for name, model in models.items()
    }
    for threads in options.threads:
        encoders = []
        try:
            for form in FORMS:
                for name, model in models.items():
                    if form in model.files:
                        encoders.append(Encoder(name, model, form, threads))
            seconds = timed(encoders, options.lengths, options.repeats, options.batches)
        finally:
            for encoder in encoders:
                encoder.end()
        for encoder in encoders if threads == options.threads[0] else []:
            for key, kind in (("peak_megabytes", "peak"), ("library_megabytes", "libraries")):
                found[encoder.name][key][encoder.form] = round(encoder.memory[kind], 1)
        for (name, form, batch, length), each in seconds.items():
            key = "latency_ms" if batch == 1 else "samples_per_s"
            values = np.array(each) * 1000 if batch == 1 else batch / np.array(each)
            by_length = found[name][key].setdefault(labelled(form, threads), {})
            by_length[str(length)] = [round(value, 3) for value in np.percentile(values, QUARTILES).tolist()]
    return found


def labelled(form: str, threads: int) -> str:
    return f"{form}, {threads} thread{'s' * (threads > 1)}"


def sizes(found: dict[str, dict[str, Any]]) -> str:
    """Of what does not take time, in Markdown."""
    rows = [["model", "parameters", "form", "MB", "memory, MB", "of it imports"]]
    for name, figures in found.items():
        for form, size in figures["megabytes"].items():
            memory = (f"{figures[key][form]:,.0f}" for key in ("peak_megabytes", "library_megabytes"))
            rows.append([name, f"{figures['parameters']:,}", form, f"{size:,.1f}", *memory])
    halved = [
        f"\n{name}: its file holds {figures['stored']}; its speeds and memory are of fp32, which it is loaded into"
        for name, figures in found.items()
        if figures["stored"] not in ("", "F32")
    ]
    return "\n".join([markdown(rows, (1, 3, 4, 5)), *halved])


def speeds(found: dict[str, dict[str, Any]], lengths: Sequence[int]) -> str:
    """Latency and throughput in Markdown: median (quartiles), and how many times as fast as the first model."""
    rows = [["form", "model", *(f"{unit}, {length} tokens" for unit in ("ms", "samples/s") for length in lengths)]]
    first = next(iter(found.values()))
    for form in dict.fromkeys(form for figures in found.values() for form in figures["latency_ms"]):
        for name, figures in found.items():
            if form in figures["latency_ms"]:
                cells = [
                    cell(figures[key][form], first[key].get(form, {}), str(length), power)
                    for key, power in (("latency_ms", -1), ("samples_per_s", 1))
                    for length in lengths
                ]
                rows.append([form, name, *cells])
    return markdown(rows, range(2, 2 + 2 * len(lengths)))


def cell(figures: dict[str, list[float]], first: dict[str, list[float]], length: str, power: int) -> str:
    if length not in figures:
        return "-"
    low, median, high = figures[length]
    ratio = f" {(median / first[length][1]) ** power:.2f}x" if length in first else ""
    return f"{shown(median)} ({shown(low)} to {shown(high)}){ratio}"


def shown(value: float) -> str:
    """Four digits, and all that are before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def check_asked(options: argparse.Namespace) -> None:
    """Raises ValueError for what could not be measured, before anything is."""
    for name in ("threads", "lengths", "repeats", "batches"):
        asked = getattr(options, name)
        values = asked if isinstance(asked, list) else [asked]
        if wrong := [value for value in values if value < 1]:
            raise ValueError(f"--{name} {wrong[0]}: give 1 or more")
        if len(set(values)) < len(values):
            raise ValueError(f"--{name} {' '.join(map(str, values))}: give each once")
    paths = [path.resolve() for path in options.models]
    for path, whole in zip(options.models, paths, strict=True):
        if paths.count(whole) > 1:
            raise ValueError(f"{path}: named twice; give each model once")


def opened(paths: Sequence[Path], lengths: Sequence[int], folder: Path) -> dict[str, Model]:
    """Models by name, which is their paths where their folders' names are the same.

    Args:
        lengths: of which each model is to take one at least.
        folder: for what is made of them.
    """
    names, found = [path.resolve().name for path in paths], {}
    for number, (name, path) in enumerate(zip(names, paths, strict=True)):
        model = Model.of(path, folder / str(number))
        if model.positions < min(lengths):
            raise ValueError(f"{path}: takes {model.positions} tokens at most: give --lengths that it takes")
        found[name if names.count(name) == 1 else str(path)] = model
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="others are compared to the first")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512], help="those that a model takes")
    parser.add_argument("--repeats", type=int, default=10, help=f"turns of {CALLS} calls at batch 1")
    parser.add_argument("--batches", type=int, default=5, help=f"turns of a call at batch {BATCH}")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    begin, load = time.monotonic(), os.getloadavg()
    try:
        check_asked(options)
        if options.output:
            fields, _ = KINDS["speeds"]
            check(options.output, fields)
        with tempfile.TemporaryDirectory() as folder:
            models = opened(options.models, options.lengths, Path(folder))
            print(f"{processor()}, load {load[0]:.1f}, {options.repeats} x {CALLS} calls at batch 1,", end=" ")
            print(f"{options.batches} at batch {BATCH}, in turn", flush=True)
            found = measure(models, options)
    except (ValueError, OSError) as error:
        print(f"inference: {error}", file=sys.stderr)
        return 2
    print(f"\n{sizes(found)}\n\n{speeds(found, options.lengths)}\n\n{time.monotonic() - begin:.0f} s in all")
    versions = {library.__name__: library.__version__ for library in (torch, transformers, onnxruntime)}
    asked = {name: getattr(options, name) for name in ("threads", "repeats", "batches")}
    machine = {"processor": processor(), "load": load, "commit": commit()}
    report = {"models": found, **versions, "batch": BATCH, **asked, **machine}
    print(json.dumps(report), flush=True)
    if options.output:
        write(options.output, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
