"""Runs of random weights with metrics and events that are made up, and the tables of a page, read again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from data_tools.text.huggingface import load_tokenizer
from litebert.data.split import Split
from litebert.distill.teacher import Teacher
from litebert.finetune.summary import Summary, above
from litebert.recipe import parse_command
from litebert.report.figures import measured
from litebert.report.page import Report
from litebert.report.runs import Run, runs_of
from litebert.report.trade import teachers_of
from litebert.train.checkpoint import Retention, publish
from litebert.train.initial import initial_model
from litebert.train.run import RunFolder

SHAPE = {"hidden_size": 24, "embedding_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 40}
DEVICES = "2 x a made-up device"
STEPS, EVERY = 200, 20


def made_run(
    shards: Path, folder: Path, seed: int = 1, *overrides: str, hours: float = 1.5, teacher: Path | None = None
) -> Path:
    """A run that is at its end, evaluated every so many steps."""
    keys = {"model": SHAPE, "train": {"steps": STEPS, "evaluate_every": EVERY, "seed": seed}}
    flags = [f"--{section}.{key}={value}" for section, of in keys.items() for key, value in of.items()]
    recipe = parse_command(["--data", str(shards), "--run", str(folder), *flags, *overrides], "").recipe
    split = Split(shards, "train")
    fingerprints = {"data": split.fingerprint, "tokenizer": split.tokenizer_fingerprint}
    if teacher:
        fingerprints["teacher"] = Teacher.load(teacher, load_tokenizer(shards / "tokenizer").pieces).fingerprint
    run_folder = RunFolder(folder, fingerprints, recipe, [str(shards)], DEVICES)
    run_folder.prepare(shards / "tokenizer")
    model = initial_model(recipe, split)
    weights = {f"model.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    publish(folder, STEPS, {"weights": weights}, run_folder.record, Retention(1))
    chance = random.Random(seed)
    lines = [line_of(chance, step) for step in range(10, STEPS + 1, 10)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    begun = time.time()
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        writer.add_scalar("mlm", 1.0, STEPS, walltime=begun + 3600 * hours)
    run_folder.finish(STEPS)
    return folder


def line_of(chance: random.Random, step: int) -> dict[str, float]:
    """A line of metrics."""
    values: dict[str, float] = {"step": step, "mlm": 8 - step / 100 + chance.random(), "lr": 1 / step}
    values |= {"sop_accuracy": 0.5 + 0.2 * chance.random(), "tokens_per_s": 1000 * chance.uniform(8, 9)}
    values |= {"memory_gb": chance.uniform(1, 3)}
    if step % EVERY == 0:
        values |= {"heldout_mlm": 8 - step / 100, "heldout_mlm_accuracy": 0.1 + step / 1000}
        values |= {"heldout_sop_accuracy": 0.5 + step / 1000}
    return values


def heldout_figures(run: Run, **changes: Any) -> dict[str, Any]:
    """As launcher/evaluate.py --data writes them."""
    chance = random.Random(run.name)
    accuracy = chance.uniform(0.5, 0.8)
    figures = {
        "run": str(run.path),
        "step": STEPS,
        "mlm_loss": chance.uniform(4, 6),
        "mlm_accuracy": chance.uniform(0.1, 0.4),
        "unigram_loss": 7.4321,
        "unigram_loss_masked": 7.3579,
        "sop_accuracy": accuracy,
        "sop_interval": [accuracy - 0.0213, accuracy + 0.0227],
        "nsp_accuracy": None,
        "nsp_interval": None,
        "kl": chance.uniform(0.1, 0.4),
        "agreement": chance.uniform(0.6, 0.9),
        "samples": 1234,
        "masked_tokens": 23456,
        "pairs": 999,
        "parameters": run.parameters,
    }
    return figures | changes


def task_figures(run: Run, task: str = "weather", *, taught: bool = False, **changes: Any) -> dict[str, Any]:
    """As launcher/evaluate.py --task --floor writes them, but for what is not read."""
    chance = random.Random(f"{run.name} {task}")

    def scores(low: float, high: float) -> Summary:
        mean = chance.uniform(low, high)
        return Summary.of([mean + chance.uniform(-0.01, 0.01) for _ in range(3)])

    model, floor = scores(0.7, 0.9), scores(0.5, 0.6)
    facts = {
        "task": task,
        "fingerprint": hashlib.sha256(task.encode()).hexdigest(),
        "metric": "accuracy",
        "sizes": {"train": 2000, "dev": 500, "test": 1200},
        "model": {"test": {"accuracy": dataclasses.asdict(model)}},
        "floor": {"test": {"accuracy": dataclasses.asdict(floor)}},
        "above_floor": above(model, floor),
    }
    if taught:
        distilled = scores(0.7, 0.9)
        facts["distilled"] = {"test": {"accuracy": dataclasses.asdict(distilled)}}
        facts["above_model"] = above(distilled, model)
    settings = {"epochs": 3, "batch": 32, "learning_rates": [1e-4], "seeds": 3}
    return {"model": str(run.path), "fingerprint": run.fingerprint, "settings": settings, "tasks": [facts | changes]}


def product_figures(run: Run, kept: float | None = 0.79) -> dict[str, Any]:
    """As launcher/export.py FINETUNED --task writes them, but for what is not read."""
    export = {"form": "ONNX, int8", "fidelity": "f", "test": {"model": 0.8, "file": kept}}
    facts = {"task": "weather", "metric": "accuracy", "model": run.name, "model_fingerprint": run.fingerprint}
    return facts | {"scores": {"test": {"accuracy": 0.81}}, "all_seeds": {}, "teaching": {}, "export": export}


def speed_figures(runs: Sequence[Run]) -> dict[str, Any]:
    """As benchmarks/inference.py writes them, a peer among them."""
    chance = random.Random(3)

    def by_length() -> dict[str, list[float]]:
        return {length: sorted(chance.uniform(0.3, 900) for _ in range(3)) for length in ("32", "128")}

    forms = ("litebert", "transformers", "onnx int8")
    models = {
        run.name: {
            "path": str(run.path),
            "fingerprint": run.fingerprint,
            "parameters": run.encoder,
            "megabytes": {form: chance.uniform(1, 9) for form in forms},
            "peak_megabytes": {form: chance.uniform(100, 900) for form in forms},
            "latency_ms": {f"{form}, 1 thread": by_length() for form in forms},
            "samples_per_s": {f"{form}, 1 thread": by_length() for form in forms},
        }
        for run in runs
    }
    return {"models": models | {"peer": {"path": "/peer"}}, "processor": "a made-up processor", "torch": "2"}


def saved(path: Path, content: Any) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def report_of(paths: list[Path], files: list[Path]) -> Report:
    """Of runs without their shards."""
    runs = runs_of(paths)
    return Report(runs, measured(files, runs), {}, [], teachers_of(runs), files)


class Page(HTMLParser):
    """What a page loads, says and holds in its tables.

    Attributes:
        loads: every address in it that a browser would open.
        text: without tags, and without what is in style.
        tables: the rows of each, the heads first.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img"):
            self._inside.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data: str) -> None:
        if "style" in self._inside:
            assert "url(" not in data and "@import" not in data
            return
        self.text += data
        if self._inside and self._inside[-1] in ("th", "td"):
            self.tables[-1][-1][-1] += data

    def table(self, *heads: str) -> list[Mapping[str, str]]:
        """The rows of the table that has these heads, by head."""
        (found,) = (table for table in self.tables if set(heads) <= set(table[0]))
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def shows(cell: str, value: float) -> bool:
    """Whether a cell is a value, as exactly as it is written, in per cent if it says so."""
    number = cell.rstrip("%").replace(",", "")
    unit = 10.0 ** -len(number.partition(".")[2])
    return abs(float(number) - value * (100 if cell.endswith("%") else 1)) <= unit * 0.5000001
