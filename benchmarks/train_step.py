"""A training step of ours beside Hugging Face's model of the same shape, on the same batches, in turn.

python benchmarks/train_step.py [--data CORPUS ...] [--vocab vocab.txt] [--shapes albert-tiny bert-base] [--steps 3]

Samples of up to 512 tokens, of the lengths that the data tools make of real text. Both sides get the same ones, of the
same initial weights, and do forward, backward, clipping and AdamW in bf16 mixed precision: ours as pretraining does
it, unpadded in its engine, at ZeRO 2 (on one device as 1, but for reads of the norm); Hugging Face's with SDPA, under
autocast, padded by its collator, eager and compiled, of which the better counts. Speeds are real tokens, not padding,
per second: of processor time on a CPU, so that others on the machine do not count, and of wall time on a GPU. Memory is
a process's at 16 k tokens. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import dataclasses
import io
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from resident import most_resident
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from data_tools.build import BuildConfig, build
from data_tools.samples.pairs import PairConfig
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.wordpiece import WordPiece
from litebert.data.batch import Counts, MicroBatch
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.model import PRESETS, Packing, PretrainingModel, to_huggingface
from litebert.model.encoder import ModelConfig
from litebert.objectives import Objective, ObjectiveConfig, PretrainingObjective
from litebert.plan.processor import processor
from litebert.train.commit import commit
from litebert.train.ds_config import read_ds_config
from litebert.train.engine import Engine
from litebert.train.optimizers import OptimizerConfig
from litebert.train.world import World, join_world

SHARED = Path(__file__).parents[2] / "shared"
SEQ_LENGTH = 512
SHAPES = ("albert-tiny", "bert-base")
OPTIMIZER = OptimizerConfig(lr=1e-4)
MEMORY_TOKENS = 16384
# What an operation's time is counted under; the first name that it contains decides.
KINDS = {
    "attention": ("bmm", "softmax_backward_data", "_softmax", "scaled_dot_product", "flash", "varlen"),
    "matrix products": ("mm", "gemm", "linear", "nvjet", "cutlass"),
    "activation": ("gelu", "tanh"),
    "norms": ("layer_norm",),
    "loss": ("log_softmax", "cross_entropy", "argmax", "nll_loss"),
    "optimizer": ("adam", "foreach"),
    "copies": ("copy", "cat", "fill", "zero", "index", "embedding", "gather"),
}
ORDER = ("loss", "attention", "matrix products", "activation", "norms", "optimizer", "copies")


def shards(data: list[Path], vocab: Path, folder: Path) -> tuple[Split, Path]:
    """The text as samples, and the folder of its tokenizer."""
    save_tokenizer(WordPiece(vocab.read_bytes(), str(vocab)), folder / "tokenizer")
    config = dataclasses.replace(BuildConfig(), pairs=PairConfig(seq_length=SEQ_LENGTH))
    with contextlib.redirect_stderr(io.StringIO()):
        build(data, folder / "tokenizer", folder / "shards", config)
    return Split(folder / "shards", "train"), folder / "tokenizer"


def micro_batches(split: Split, samples: int, count: int) -> list[MicroBatch]:
    """A micro-batch a step, all of it."""
    config = DataConfig(global_batch=samples, micro_tokens=(samples + 2) * SEQ_LENGTH)
    return [step.micro_batches[0] for step in islice(Loader(split, config, 0, 1, 0, count), count)]


def padded(batch: MicroBatch, collator: Any, pair_label: str | None) -> dict[str, Tensor]:
    """The same samples as Hugging Face's collator pads them, with its own names; without pairs, no label of them."""
    labels = torch.full_like(batch.ids, -100)
    labels[batch.masked] = batch.labels
    columns = {"input_ids": batch.ids, "token_type_ids": batch.token_types, "labels": labels}
    rows = {name: column.split(batch.packing.lengths.tolist()) for name, column in columns.items()}
    features = [
        {name: row[number].tolist() for name, row in rows.items()}
        | ({pair_label: order if order >= 0 else -100} if pair_label else {})
        for number, order in enumerate(batch.order.tolist())
    ]
    return dict(collator(features))


def hugging_face(model: PretrainingModel, kind: Any = transformers.AutoModelForPreTraining) -> nn.Module:
    """Its model of the same shape and weights."""
    described, weights = to_huggingface(model, pad_id=0, cls_id=2, sep_id=3)
    del described["architectures"]
    theirs = kind.from_config(transformers.AutoConfig.for_model(**described), attn_implementation="sdpa")
    theirs.load_state_dict(weights, strict=False)
    theirs.tie_weights()
    return theirs.train()


def hugging_face_step(
    theirs: nn.Module, device: torch.device, loss_of: Callable[[dict[str, Tensor]], Tensor] | None = None
) -> Callable[[dict[str, Tensor]], None]:
    """A step on padded batches, of the model's own loss or of another."""
    theirs.to(device)
    optimizer = torch.optim.AdamW(
        theirs.parameters(),
        lr=OPTIMIZER.lr,
        betas=OPTIMIZER.betas,
        eps=OPTIMIZER.eps,
        weight_decay=OPTIMIZER.weight_decay,
        fused=True,
    )

    def step(batch: dict[str, Tensor]) -> None:
        on_device = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(on_device) if loss_of else theirs(**on_device).loss
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(objective: Objective, world: World) -> Callable[[MicroBatch], None]:
    ds_config = read_ds_config(Path("ds_configs/zero2.json"), "bf16")
    engine = Engine(objective, OPTIMIZER, "bf16", ds_config, world)

    def step(batch: MicroBatch) -> None:
        engine.backward(batch.to(world.device), last=True)
        engine.update(OPTIMIZER.lr)

    return step


def seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        begin = time.process_time()
        work()
        return (time.process_time() - begin) / torch.get_num_threads()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def flops(config: ModelConfig, batch: MicroBatch) -> int:
    """Of a step's matrix products, forward and backward, counted on the meta device."""
    with torch.device("meta"):
        model = PretrainingModel(config)
    on_meta = batch.to(torch.device("meta"))
    with FlopCounterMode(display=False) as counter:
        scored = model(on_meta.ids, on_meta.token_types, on_meta.packing, on_meta.masked, on_meta.labels)
        assert scored.pair_logits_B2 is not None
        (scored.mlm_loss + scored.pair_logits_B2.sum()).backward()
    return counter.get_total_flops()


def matrix_rate(device: torch.device) -> float:
    """FLOP/s of the best bf16 product of a few large shapes."""
    best = 0.0
    for rows, width in ((2048, 1024), (4096, 3072)) if device.type == "cpu" else ((8192, 4096), (16384, 8192)):
        left, right = (torch.randn(size, width, device=device, dtype=torch.bfloat16) for size in (rows, width))
        for _ in range(4):
            best = max(best, 2 * rows * width**2 / seconds(lambda a=left, b=right: a @ b.t(), device))  # type: ignore[misc]
    return best


def shares(work: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Where a step's time goes, by kind of operation."""
    with profile() as profiler:
        work()
    spent: dict[str, float] = defaultdict(float)
    on_cpu = device.type == "cpu"  # else kernels alone, for what launched them counts their time again
    for event in profiler.key_averages():
        if (event.device_type == DeviceType.CPU) != on_cpu:
            continue
        own = event.self_cpu_time_total if on_cpu else event.self_device_time_total
        name = event.key.lower()
        kind = next((kind for kind in ORDER if any(part in name for part in KINDS[kind])), "rest")
        spent[kind] += own
    total = sum(spent.values())
    return {kind: round(time / total, 3) for kind, time in sorted(spent.items(), key=lambda entry: -entry[1])}


def compare(name: str, split: Split, tokenizer: Path, options: argparse.Namespace, world: World) -> dict[str, Any]:
    """One shape: speeds, their ratio, and where our time goes."""
    torch.manual_seed(0)
    model = PretrainingModel(dataclasses.replace(PRESETS[name], vocab_size=split.vocab_size))
    pair_label = "sentence_order_label" if name.startswith("albert") else "next_sentence_label"
    collator = transformers.DataCollatorForTokenClassification(transformers.AutoTokenizer.from_pretrained(tokenizer))
    samples = options.samples or (16 if world.device.type == "cpu" else 128)
    batches = micro_batches(split, samples, options.steps + 1)
    padded_batches = [padded(batch, collator, pair_label) for batch in batches]
    eager, compiled = hugging_face(model), hugging_face(model)
    compiled.compile(dynamic=True)
    theirs = {"hf_eager": eager} if options.quick else {"hf_eager": eager, "hf_compiled": compiled}
    steps: dict[str, Callable[[Any], None]] = {
        kind: hugging_face_step(theirs, world.device) for kind, theirs in theirs.items()
    }
    rate_of_flops = flops(model.config, batches[-1])  # before the engine makes its model bf16
    steps["ours"] = our_step(PretrainingObjective(model, ObjectiveConfig()), world)
    speeds: dict[str, list[float]] = {kind: [] for kind in steps}
    for number, (batch, other) in enumerate(zip(batches, padded_batches, strict=True)):
        for kind, step in steps.items():
            took = seconds(lambda: step(batch if kind == "ours" else other), world.device)  # noqa: B023
            if number:  # the first warms up, and compiles
                speeds[kind].append(batch.packing.tokens / took)
    medians = {kind: statistics.median(values) for kind, values in speeds.items()}
    best = max(medians[kind] for kind in theirs)
    achieved = rate_of_flops / batches[-1].packing.tokens * medians["ours"]
    rate = matrix_rate(world.device)
    filled = sum(b.packing.tokens for b in batches) / sum(other["input_ids"].numel() for other in padded_batches)
    print(
        f"\n{name}: {samples} samples a step, {filled:.0%} of the padded batch is text; tokens/s, median (least, most)"
    )
    for kind, values in speeds.items():
        print(f"{kind:12} {medians[kind]:10,.0f} ({min(values):,.0f}, {max(values):,.0f}) {medians[kind] / best:6.2f}x")
    spent = shares(lambda: steps["ours"](batches[-1]), world.device)
    print("ours, time by kind:", ", ".join(f"{kind} {share:.0%}" for kind, share in spent.items()))
    print(f"matrix products at {achieved / 1e9:,.0f} GFLOP/s, {achieved / rate:.0%} of the {rate / 1e9:,.0f} measured")
    return {
        "ratio_vs_hf": round(medians["ours"] / best, 2),
        "tokens_per_s": {
            kind: {"median": round(medians[kind], 1), "least": round(min(v), 1), "most": round(max(v), 1)}
            for kind, v in speeds.items()
        },
        "samples": samples,
        "filled": round(filled, 3),
        "share_of_matrix_rate": round(achieved / rate, 3),
        "matrix_gflops": round(rate / 1e9),
        "profile": spent,
    }


def peak(side: str, name: str, vocab_size: int) -> float:
    """MB that a forward and backward of 16 k tokens adds to a fresh process, or to a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = PretrainingModel(dataclasses.replace(PRESETS[name], vocab_size=vocab_size))
    batch = full_batch(vocab_size)
    if side == "ours":
        objective = PretrainingObjective(model.to(device, torch.bfloat16), ObjectiveConfig())
        work = lambda: objective(batch.to(device)).loss.backward()  # noqa: E731
    else:
        theirs = hugging_face(model).to(device)
        ids = batch.ids.view(-1, SEQ_LENGTH).to(device)
        labels = torch.full_like(batch.ids, -100).scatter(0, batch.masked, batch.labels).view_as(ids).to(device)
        label = {"sentence_order_label" if name.startswith("albert") else "next_sentence_label": batch.order.to(device)}

        def work() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                loss = theirs(input_ids=ids, labels=labels, **label).loss
            loss.backward()

    if device.type == "cuda":
        allocated = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - allocated) / 1e6
    before = most_resident()
    work()
    return most_resident() - before


def full_batch(vocab_size: int) -> MicroBatch:
    """Samples that are all full, so that padding is not what makes the difference; 15 % of the tokens masked."""
    rng = np.random.default_rng(0)
    samples, masked = MEMORY_TOKENS // SEQ_LENGTH, MEMORY_TOKENS * 15 // 100
    ids, labels = (torch.from_numpy(rng.integers(5, vocab_size, size)) for size in (MEMORY_TOKENS, masked))
    return MicroBatch(
        ids=ids,
        token_types=torch.zeros_like(ids),
        packing=Packing.of([SEQ_LENGTH] * samples),
        masked=torch.from_numpy(np.sort(rng.choice(MEMORY_TOKENS, masked, replace=False))),
        labels=labels,
        order=torch.zeros(samples, dtype=torch.int64),
        counts=Counts(MEMORY_TOKENS, samples, masked, samples),
    )


def memory(name: str, vocab_size: int) -> dict[str, float]:
    """Each side's peak, in a process of its own."""
    found = {}
    for side in ("ours", "hf"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[side] = round(pool.apply(peak, (side, name, vocab_size)))
    print(f"\n{name}, {MEMORY_TOKENS:,} tokens, {vocab_size:,} words: peak {found['ours']:,} MB, HF {found['hf']:,} MB")
    return {f"{side}_mb": megabytes for side, megabytes in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[SHARED / "corpus/sample.jsonl.xz"])
    parser.add_argument("--vocab", type=Path, default=SHARED / "models/vocab-zh-21128.txt", help="BERT's vocab.txt")
    parser.add_argument("--shapes", nargs="+", choices=sorted(PRESETS), default=list(SHAPES))
    parser.add_argument("--samples", type=int, default=0, help="of a step; 0: 16 on a CPU, 128 on a GPU")
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    parser.add_argument("--quick", action="store_true", help="nothing compiled, no memory: does it run?")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    world = join_world()
    hardware = torch.cuda.get_device_name() if world.device.type == "cuda" else processor()
    print(f"{hardware}, {torch.get_num_threads()} threads, {options.steps} steps, in turn")
    with tempfile.TemporaryDirectory() as folder:
        split, tokenizer = shards(options.data, options.vocab, Path(folder))
        found = {name: compare(name, split, tokenizer, options, world) for name in options.shapes}
        vocab_size = split.vocab_size
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    report = {
        "ratio_vs_hf": {name: figures.pop("ratio_vs_hf") for name, figures in found.items()},
        "shapes": found,
        "memory": None if options.quick else memory(options.shapes[0], vocab_size),
        "processor": hardware,
        "threads": torch.get_num_threads(),
        "versions": versions | {"python": platform.python_version()},
        "commit": commit(),
    }
    print(json.dumps(report), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
