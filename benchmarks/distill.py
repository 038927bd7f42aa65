"""A step of distillation of ours beside Hugging Face's models and TextBrewer with the same losses, in turn.

python benchmarks/distill.py [--data CORPUS ...] [--vocab vocab.txt] [--shapes bert-base small] [--steps 3] [--quick]

A teacher of 12 layers and a student of 6, without token types and pooler, that begins as every second of them. All
sides get the same batches, samples of up to 512 tokens of the lengths that the data tools make of real text, and the
same weights, and train on DistilBERT's losses at masked places, ce (temperature 2) + mlm + cos, weighted 5, 2 and 1,
with clipping and AdamW in bf16 mixed precision, without dropout:

- ``live``: ours as launcher/distill.py does it, unpadded, with the teacher in bf16;
- ``hf``: Hugging Face's models with SDPA under autocast, padded to 512 tokens; ``hf_longest``: the same, padded to the
  longest sample of the batch;
- ``textbrewer``: TextBrewer's GeneralDistiller on the models and batches of ``hf``. It is installed from PyPI into the
  cache folder; --quick takes it only where it is;
- ``mlm``: a step of the same student without a teacher, ours;
- ``stored``: the same step with the teacher's answers in the batch, codec hidden, as the loader reads them.

Speeds are real tokens, not padding, per second: of processor time on a CPU, so that others on the machine do not
count, and of wall time on a GPU. Beside them stand the operations of matrix products that a real token costs, and how
much of the rate of large products alone they reach; torch does not count those inside SDPA on a CPU. The last line is
one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import dataclasses
import json
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from distillers import HARD, SOFT, find_textbrewer, hugging_face_losses, textbrewer_loss
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from train_step import (
    SEQ_LENGTH,
    SHARED,
    hugging_face,
    hugging_face_step,
    matrix_rate,
    micro_batches,
    our_step,
    padded,
    seconds,
    shards,
    shares,
)

from data_tools.shards.cache import cache_folder
from litebert.data.batch import MicroBatch
from litebert.data.split import Split
from litebert.distill.codecs import Codec, CodecConfig, TeacherHead, codec_of
from litebert.distill.objective import DistillationObjective
from litebert.distill.sources import Live, Stored
from litebert.distill.states import Wanted
from litebert.distill.students import begin_as, layers_of
from litebert.distill.task import DTYPES, compared_layers
from litebert.distill.teacher import Teacher
from litebert.model import PRESETS, PretrainingModel
from litebert.model.encoder import ModelConfig
from litebert.objectives import ObjectiveConfig, PretrainingObjective
from litebert.plan.processor import processor
from litebert.train.commit import commit
from litebert.train.world import World, join_world

# A teacher's shape; its student has half the layers, no token types and no pooler.
SHAPES = {
    "bert-base": PRESETS["bert-base"],
    "small": dataclasses.replace(
        PRESETS["bert-base"], hidden_size=384, embedding_size=384, num_heads=6, intermediate_size=1536
    ),
}


def pair(config: ModelConfig) -> tuple[PretrainingModel, PretrainingModel]:
    """A teacher, frozen, and the student that begins as every second of its layers."""
    torch.manual_seed(0)
    teacher = PretrainingModel(config).eval().requires_grad_(False)
    layers = config.num_layers // 2
    student = PretrainingModel(dataclasses.replace(config, num_layers=layers, token_types=0, pooler=False))
    begin_as(student, teacher, layers_of(config.num_layers, layers))
    return teacher, student


def live(teacher: PretrainingModel, student: PretrainingModel, dtype: torch.dtype) -> DistillationObjective:
    """The objective of launcher/distill.py; the teacher becomes of the dtype."""
    its = teacher.config.num_layers
    compared = compared_layers(SOFT, layers_of(its, student.config.num_layers), its)
    wanted = Wanted.of(SOFT, [layer for _, layer in compared], pairs=False)
    source = Live([Teacher(Path(), teacher.to(dtype), "")], wanted, SOFT.temperature)
    return DistillationObjective(student, source, SOFT, HARD, compared, teacher.config.hidden_size)


def hugging_face_pair(teacher: PretrainingModel, student: PretrainingModel) -> tuple[nn.Module, nn.Module]:
    """Its models of the same shapes and weights."""
    its, own = (hugging_face(model, transformers.AutoModelForMaskedLM) for model in (teacher, student))
    return its.eval().requires_grad_(False), own


@dataclasses.dataclass(frozen=True)
class Side:
    """A way of training: a step, and the batches in the form that it takes."""

    step: Callable[[Any], None]
    batches: list[Any]


def answered(teacher: PretrainingModel, codec: Codec, batches: list[MicroBatch]) -> list[MicroBatch]:
    """The batches with the teacher's answers, as the loader would read them."""
    device, own = teacher.mlm.bias.device, Teacher(Path(), teacher, "")
    told = []
    for batch in batches:
        hidden_MH = own.read(batch.to(device), Wanted()).words_RH
        columns = codec.encode(TeacherHead.of(teacher), hidden_MH, None)
        told.append(dataclasses.replace(batch, soft={name: column.cpu() for name, column in columns.items()}))
    return told


def our_sides(config: ModelConfig, batches: list[MicroBatch], world: World) -> dict[str, Side]:
    teacher, student = pair(config)
    teacher, codec = teacher.to(world.device), codec_of(CodecConfig("hidden"), config)
    its, layers = config.num_layers, student.config.num_layers
    told = answered(teacher, codec, batches)
    compared = compared_layers(SOFT, layers_of(its, layers), its)
    alone = PretrainingObjective(copy.deepcopy(student), ObjectiveConfig(sop=0.0))
    asks = live(teacher, copy.deepcopy(student), DTYPES[SOFT.precision])
    source = Stored(codec, TeacherHead.of(teacher), its)
    reads = DistillationObjective(student, source, SOFT, HARD, compared, config.hidden_size)
    return {
        "live": Side(our_step(asks, world), batches),
        "mlm": Side(our_step(alone, world), batches),
        "stored": Side(our_step(reads, world), told),
    }


def other_sides(
    config: ModelConfig, batches: list[MicroBatch], tokenizer: Path, textbrewer: ModuleType | None, world: World
) -> dict[str, Side]:
    tokens = transformers.AutoTokenizer.from_pretrained(tokenizer)
    collate = transformers.DataCollatorForTokenClassification
    full = collate(tokens, padding="max_length", max_length=SEQ_LENGTH)
    whole, longest = ([padded(batch, collator, None) for batch in batches] for collator in (full, collate(tokens)))
    teacher, student = (model.to(world.device) for model in hugging_face_pair(*pair(config)))
    second = copy.deepcopy(student)
    step = hugging_face_step(student, world.device, lambda batch: hugging_face_losses(teacher, student, batch)["loss"])
    sides = {"hf": Side(step, whole), "hf_longest": Side(step, longest)}
    if textbrewer is not None:
        with tempfile.TemporaryDirectory() as folder:
            loss = textbrewer_loss(textbrewer, teacher, second, Path(folder), world.device)
        sides["textbrewer"] = Side(hugging_face_step(second, world.device, loss), whole)
    return sides


def compare(
    name: str, split: Split, tokenizer: Path, textbrewer: ModuleType | None, options: argparse.Namespace, world: World
) -> dict[str, Any]:
    """One pair of models: speeds, ratios, and where our time goes."""
    config = dataclasses.replace(SHAPES[name], vocab_size=split.vocab_size)
    samples = options.samples or (8 if world.device.type == "cpu" else 128)
    batches = micro_batches(split, samples, options.steps + 1)
    sides = our_sides(config, batches, world) | other_sides(config, batches, tokenizer, textbrewer, world)
    speeds: dict[str, list[float]] = {kind: [] for kind in sides}
    products: dict[str, float] = {}
    for number, batch in enumerate(batches):
        for kind, side in sides.items():
            if number == 0:  # it warms up
                with FlopCounterMode(display=False) as counter:
                    side.step(side.batches[0])
                products[kind] = counter.get_total_flops() / batch.packing.tokens
                continue
            took = seconds(lambda: side.step(side.batches[number]), world.device)  # noqa: B023
            speeds[kind].append(batch.packing.tokens / took)
    medians = {kind: statistics.median(values) for kind, values in speeds.items()}
    tokens = sum(batch.packing.tokens for batch in batches)
    filled = {
        kind: tokens / sum(places["input_ids"].numel() for places in sides[kind].batches)
        for kind in ("hf", "hf_longest")
    }
    rate = matrix_rate(world.device)
    print(
        f"\n{name}: {samples} samples a step, of {SEQ_LENGTH} places {filled['hf']:.0%} are text, of those up to a "
        f"batch's longest {filled['hf_longest']:.0%}; matrix products at most at {rate / 1e9:,.0f} GFLOP/s\n"
        f"{'':10} {'tokens/s':>10} {'(least, most)':>18} {'live is':>8} {'MFLOP/token':>12} {'of the rate':>12}"
    )
    found: dict[str, Any] = {}
    for kind, values in speeds.items():
        median, low, high = medians[kind], min(values), max(values)
        ratio, share = medians["live"] / median, products[kind] * median / rate
        print(
            f"{kind:10} {median:10,.1f} {f'({low:,.1f}, {high:,.1f})':>18} {ratio:7.2f}x {products[kind] / 1e6:12,.0f}"
            f" {share:12.0%}"
        )
        found[kind] = {
            "median": round(median, 1),
            "least": round(low, 1),
            "most": round(high, 1),
            "live_ratio": round(ratio, 2),
            "mflop_per_token": round(products[kind] / 1e6),
            "share_of_matrix_rate": round(share, 3),
        }
    spent = {kind: shares(lambda: sides[kind].step(sides[kind].batches[-1]), world.device) for kind in ("live", "hf")}  # noqa: B023
    for kind, profile in spent.items():
        print(f"{kind}, time by kind:", ", ".join(f"{part} {part_share:.0%}" for part, part_share in profile.items()))
    return {
        "tokens_per_s": found,
        "samples": samples,
        "filled": {kind: round(share, 3) for kind, share in filled.items()},
        "matrix_gflops": round(rate / 1e9),
        "profile": spent["live"],
        "hf_profile": spent["hf"],
    }


def ratios(found: dict[str, Any], side: str) -> dict[str, float | None]:
    """How many times as fast as a side ours is, by shape; None where that side is not there."""
    return {name: figures["tokens_per_s"].get(side, {}).get("live_ratio") for name, figures in found.items()}


def stored_over_mlm(speeds: dict[str, Any]) -> float:
    """The time of a step with stored answers, as a share of one without a teacher."""
    return round(speeds["mlm"]["median"] / speeds["stored"]["median"], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[SHARED / "corpus/sample.jsonl.xz"])
    parser.add_argument("--vocab", type=Path, default=SHARED / "models/vocab-zh-21128.txt", help="BERT's vocab.txt")
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=list(SHAPES))
    parser.add_argument("--samples", type=int, default=0, help="of a step; 0: 8 on a CPU, 128 on a GPU")
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    parser.add_argument(
        "--quick", action="store_true", help="small, a step of 2 samples, nothing installed: does it run?"
    )
    options = parser.parse_args()
    if options.quick:
        options.shapes, options.samples, options.steps = ["small"], 2, 1
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    textbrewer = find_textbrewer(cache_folder() / "benchmarks", install=not options.quick)
    world = join_world()
    hardware = torch.cuda.get_device_name() if world.device.type == "cuda" else processor()
    print(f"{hardware}, {torch.get_num_threads()} threads, {options.steps} steps, in turn")
    with tempfile.TemporaryDirectory() as folder:
        split, tokenizer = shards(options.data, options.vocab, Path(folder))
        found = {name: compare(name, split, tokenizer, textbrewer, options, world) for name in options.shapes}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    report = {
        "live_ratio_vs_hf": ratios(found, "hf"),
        "live_ratio_vs_hf_longest": ratios(found, "hf_longest"),
        "live_ratio_vs_textbrewer": ratios(found, "textbrewer"),
        "stored_over_mlm": {name: stored_over_mlm(figures["tokens_per_s"]) for name, figures in found.items()},
        "shapes": found,
        "processor": hardware,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "versions": versions
        | {"textbrewer": textbrewer and textbrewer.__version__, "python": platform.python_version()},
        "commit": commit(),
    }
    print(json.dumps(report), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
