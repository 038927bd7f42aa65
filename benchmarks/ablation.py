"""What ALBERT's choices change: variants of one small model, trained for as many steps on the same documents.

python benchmarks/ablation.py --output DIR [--text CORPUS ...] [--steps 1000] [--workers 2] [--only NAME ...]

Cross-layer sharing, factorised embeddings (E < H), and what is told of sentence pairs: their order (SOP), whether they
belong together (NSP), or nothing. Every variant is pretrained by launcher/pretrain.py from the same recipe, and then
measured on the same held-out documents: masked words and order on the SOP form of them, NSP on theirs. Started again
with the same --output it goes on. Speeds are taken afterwards, in turn, per second of processor time. The last line is
one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.evaluate.heldout import Heldout, evaluate_heldout
from litebert.markdown import markdown
from litebert.model import PretrainingModel
from litebert.objectives import PretrainingObjective
from litebert.plan.processor import processor
from litebert.train.commit import commit
from litebert.train.trained import Trained, load_trained

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
RECIPE = ROOT / "launcher/recipes/albert_demo.yaml"
VOCABULARY = 8000
HIDDEN, FACTORISED = 192, 64
SPEED_ROUNDS = 5
SHAPE = {
    "model.hidden_size": HIDDEN,
    "model.intermediate_size": 4 * HIDDEN,
    "model.num_heads": 3,
    "data.global_batch": 64,
    "train.evaluate_every": 0,
    "train.log_every": 50,
    "train.checkpoint_every": 250,
    "schedule.warmup_steps": 100,
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row.

    Attributes:
        sharing: what the layers have in common.
        embedding: width of the embeddings.
        pairs: what is told of pairs, ``sop``, ``nsp`` or ``none``; also the data it is trained on.
        paper: average score of the variant in Lan et al. 2020 (ALBERT-base; tables 4 and 5), for its ordering.
    """

    sharing: str
    embedding: int
    pairs: str
    paper: float

    def overrides(self) -> dict[str, Any]:
        weights = {f"objective.{kind}": float(self.pairs == kind) for kind in ("sop", "nsp")}
        shape = {"model.sharing": self.sharing, "model.embedding_size": self.embedding}
        return {**SHAPE, **shape, **weights, "model.pooler": str(self.pairs != "none").lower()}


VARIANTS = {
    "share all": Variant("all", FACTORISED, "sop", 80.1),
    "share attention": Variant("attention", FACTORISED, "sop", 81.7),
    "share ffn": Variant("ffn", FACTORISED, "sop", 80.2),
    "share nothing": Variant("none", FACTORISED, "sop", 81.6),
    "share all, E = H": Variant("all", HIDDEN, "sop", 79.8),
    "share nothing, E = H": Variant("none", HIDDEN, "sop", 82.3),
    "NSP": Variant("all", FACTORISED, "nsp", 79.2),
    "no pair task": Variant("all", FACTORISED, "none", 79.0),
}


def data_tools(*arguments: object) -> None:
    """Runs a verb; what is there already stays."""
    subprocess.run([sys.executable, "-m", "data_tools", *map(str, arguments)], cwd=ROOT, env=environment(), check=True)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def prepare(text: list[Path], output: Path, workers: int) -> dict[str, Path]:
    """The documents as shards, by what their pairs are for."""
    tokenizer = output / "tokenizer"
    if not tokenizer.exists():
        data_tools("tokenizer", "--input", *text, "--output", tokenizer, "--vocab-size", VOCABULARY)
    shards = {pairs: output / f"shards-{pairs}" for pairs in ("sop", "nsp", "none")}
    for pairs, folder in shards.items():
        if not folder.exists():
            settings = ("--pairs.objective", pairs, "--masks.copies", 2, "--workers", workers)
            data_tools("build", "--input", *text, "--tokenizer", tokenizer, "--output", folder, *settings)
    return shards


def train(name: str, shards: dict[str, Path], output: Path, steps: int) -> None:
    """Trains a variant to its end, in a process with one thread."""
    variant = VARIANTS[name]
    overrides = {**variant.overrides(), "train.steps": steps}
    flags = [part for key, value in overrides.items() for part in (f"--{key}", str(value))]
    run = folder_of(name, output)
    command = [sys.executable, "launcher/pretrain.py", "--config", str(RECIPE)]
    command += ["--data", str(shards[variant.pairs]), "--run", str(run), *flags]
    with (output / f"{run.name}.log").open("a") as log:
        done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{name}: training ended with exit code {done.returncode}; see {log.name}")
    print(f"{name}: trained", flush=True)


def folder_of(name: str, output: Path) -> Path:
    return output / name.lower().replace(",", "").replace(" = ", "").replace(" ", "-")


def measured(trained: Trained, shards: dict[str, Path]) -> dict[str, Heldout]:
    """Figures on the held-out documents, in the form for SOP and in that for NSP."""
    forms = {pairs: shards[pairs] for pairs in ("sop", "nsp")}
    device = torch.device("cpu")
    return {
        pairs: evaluate_heldout(trained.model, Split(folder, "train"), Split(folder, "heldout"), device)
        for pairs, folder in forms.items()
    }


def speeds(runs: dict[str, Trained], shards: dict[str, Path]) -> dict[str, float]:
    """Tokens forward and backward per second of processor time, medians over rounds in turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(SPEED_ROUNDS + 1):
        for name, trained in runs.items():
            torch.manual_seed(0)
            config = trained.recipe.model_config(trained.tokenizer.vocab_size)
            objective = PretrainingObjective(PretrainingModel(config).bfloat16(), trained.recipe.objective)
            split = Split(shards[VARIANTS[name].pairs], "train")
            step = next(iter(islice(Loader(split, DataConfig(64, 16384), 0, 1, turn, turn + 1), 1)))
            begun = time.process_time()
            for batch in step.micro_batches:
                objective(batch).loss.backward()
            if turn:  # the first warms up
                tokens = sum(batch.packing.tokens for batch in step.micro_batches)
                found[name].append(tokens / (time.process_time() - begun))
    return {name: statistics.median(values) for name, values in found.items()}


def row(name: str, trained: Trained, figures: dict[str, Heldout], speed: float) -> dict[str, Any]:
    variant, sop = VARIANTS[name], figures["sop"]
    return {
        "parameters": sop.parameters,
        "mlm_loss": round(sop.mlm_loss, 4),
        "mlm_accuracy": round(sop.mlm_accuracy, 4),
        "sop_accuracy": told(sop.sop_accuracy, sop.sop_interval),
        "nsp_accuracy": told(figures["nsp"].nsp_accuracy, figures["nsp"].nsp_interval),
        "tokens_per_s": round(speed),
        "steps": trained.step,
        "paper": variant.paper,
    }


def told(share: float | None, interval: tuple[float, float] | None) -> list[float] | None:
    return None if share is None or interval is None else [round(x, 4) for x in (share, *interval)]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""

    def percent(found: list[float] | None) -> str:
        return "" if found is None else "{:.1f}% [{:.1f}, {:.1f}]".format(*(100 * x for x in found))

    lines = [["", "parameters", "MLM loss", "MLM accuracy", "SOP", "NSP", "tokens/s of a core", "the paper's average"]]
    for name, row in rows.items():
        figures = [f"{row['parameters']:,}", f"{row['mlm_loss']:.3f}", f"{row['mlm_accuracy']:.1%}"]
        figures += [percent(row[f"{task}_accuracy"]) for task in ("sop", "nsp")]
        lines.append([name, *figures, f"{row['tokens_per_s']:,}", str(row["paper"])])
    return markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", default=[SHARED / "corpus/pretrain.jsonl.xz"])
    parser.add_argument("--output", type=Path, required=True, help="folder for shards and runs")
    parser.add_argument("--steps", type=int, default=1000, help="of each variant, of 64 samples")
    parser.add_argument("--workers", type=int, default=2, help="variants trained at a time")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    shards = prepare(options.text, options.output, options.workers)
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda name: train(name, shards, options.output, options.steps), options.only))
    runs = {name: load_trained(folder_of(name, options.output)) for name in options.only}
    fast = speeds(runs, shards)
    rows = {name: row(name, trained, measured(trained, shards), fast[name]) for name, trained in runs.items()}
    print(table(rows))
    print(json.dumps({"variants": rows, "torch": torch.__version__, "processor": processor(), "commit": commit()}))


if __name__ == "__main__":
    main()
