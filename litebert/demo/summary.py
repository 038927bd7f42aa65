"""What a demo run came to: its facts as JSON, as a table, and as a picture of its losses."""

from __future__ import annotations

import json
import os
import statistics
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from litebert.demo.stages import clock

DISTILLED = ("student", "control")


def summarize(folder: Path, corpus: Sequence[Path], seconds: Mapping[str, float]) -> str:
    """Writes summary.json, summary.txt and loss.png into a finished run folder; returns the table.

    Args:
        corpus: the files and folders that were read.
        seconds: time by stage, in order.
    """
    manifest = read(folder / "shards" / "manifest.json")
    curve = [json.loads(line) for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
    kept = ("documents", "characters", "samples", "tokens")
    facts = {
        "corpus": [str(path) for path in corpus],
        "megabytes": megabytes(corpus),
        "documents_read": manifest["documents_read"],
        "vocab_size": manifest["vocab_size"],
        "splits": {name: {key: split[key] for key in kept} for name, split in manifest["splits"].items()},
        "steps": curve[-1]["step"],
        "tokens_per_s": statistics.median(line["tokens_per_s"] for line in curve),
        "evaluation": read(folder / "evaluation.json"),
        "distilled": {name: read(folder / f"{name}.json") for name in DISTILLED},
        "filled": read(folder / "filled.json"),
        "seconds": dict(seconds),
    }
    text = table(rows(facts, folder))
    (folder / "summary.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "summary.txt").write_text(f"{text}\n", encoding="utf-8")
    draw(curve, facts["evaluation"]).savefig(folder / "loss.png", dpi=120)
    return text


def rows(facts: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """The lines of the table, label and value; an empty label goes on with the one above."""
    train, heldout, result = facts["splits"]["train"], facts["splits"]["heldout"], facts["evaluation"]
    both = {key: train[key] + heldout[key] for key in train}
    gain = result["unigram_loss_masked"] - result["mlm_loss"]
    side = "below" if gain > 0 else "above"
    low, high = result["sop_interval"]
    corpus = ", ".join(map(os.path.relpath, facts["corpus"]))
    folder = Path(os.path.relpath(folder))
    filled = []
    for entry in facts["filled"]:
        (best, share), *others = entry["pieces"]
        sentence = entry["sentence"].replace("[MASK]", f"[{best}]")
        filled.append(("", f"{sentence}  {share:.0%} (then {' '.join(piece for piece, _ in others)})"))
    return [
        ("text", f"{corpus}: {facts['megabytes']:.1f} MB, {facts['documents_read']:,} documents"),
        ("kept", f"{both['documents']:,} documents, {both['characters']:,} characters"),
        ("tokens", f"{train['tokens']:,} to train on, {heldout['tokens']:,} held out"),
        ("samples", f"{train['samples']:,} to train on, {heldout['samples']:,} held out"),
        ("model", f"{result['parameters']:,} parameters, {facts['vocab_size']:,} pieces"),
        ("training", f"{facts['steps']:,} steps, {facts['tokens_per_s']:,.0f} tokens/s"),
        (
            "held-out MLM loss",
            f"{result['mlm_loss']:.3f} nats over {result['masked_tokens']:,} masked tokens",
        ),
        (
            "unigram baseline",
            f"{result['unigram_loss_masked']:.3f} nats on the same tokens: the model is {abs(gain):.3f} {side} it",
        ),
        ("held-out MLM accuracy", f"{result['mlm_accuracy']:.1%}"),
        ("held-out SOP accuracy", f"{result['sop_accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%})"),
        *distilled(result, facts["distilled"]),
        ("filled by the export", filled[0][1]),
        *filled[1:],
        ("time", clock(sum(facts["seconds"].values()))),
        *((f"  {stage}", clock(seconds)) for stage, seconds in facts["seconds"].items()),
        ("exported model", str(folder / "export")),
        ("loss curve", str(folder / "loss.png")),
        ("more curves", f".venv/bin/tensorboard --logdir {folder / 'train' / 'tensorboard'}"),
    ]


def distilled(teacher: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The lines of a student with a teacher and of one without, the control, beside the teacher."""
    figures = {"teacher": teacher, **others}
    shown = (
        ("  parameters", "parameters", "{:,}"),
        ("  held-out MLM loss", "mlm_loss", "{:.3f}"),
        ("  held-out MLM accuracy", "mlm_accuracy", "{:.1%}"),
        ("  KL from the teacher", "kl", "{:.3f}"),
        ("  same likeliest word", "agreement", "{:.1%}"),
    )
    lines = [("distilled, half as deep", [f"{name:>11}" for name in figures])]
    for label, key, form in shown:
        values = [its[key] for its in figures.values()]
        lines.append((label, [f"{'' if value is None else form.format(value):>11}" for value in values]))
    return [(label, "".join(cells)) for label, cells in lines]


def table(lines: Sequence[tuple[str, str]]) -> str:
    """Labels and values, aligned on a terminal, between two rules."""
    column = max(width(label) for label, _ in lines) + 2
    text = [label + " " * (column - width(label)) + value for label, value in lines]
    rule = "─" * max(map(width, text))
    return "\n".join([rule, *text, rule])


def width(text: str) -> int:
    """Columns that a text takes on a terminal: a Chinese character takes two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def draw(curve: Sequence[Mapping[str, float]], result: Mapping[str, Any]) -> Figure:
    """MLM loss by step beside the unigram baseline, SOP accuracy beside chance; points are held out."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    mlm, sop = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = [line["step"] for line in curve]
    low, high = result["sop_interval"]
    mlm.plot(steps, [line["mlm"] for line in curve], label="training")
    mlm.plot(steps[-1], result["mlm_loss"], "o", label=f"held out: {result['mlm_loss']:.2f}")
    unigram = result["unigram_loss_masked"]
    mlm.axhline(unigram, color="0.5", ls="--", label=f"unigram: {unigram:.2f}")
    mlm.set_ylabel("masked-token loss (nats)")
    sop.plot(steps, [line["sop_accuracy"] for line in curve], label="training")
    sop.plot(steps[-1], result["sop_accuracy"], "o", label=f"held out: {result['sop_accuracy']:.0%}")
    sop.plot([steps[-1]] * 2, [low, high], color="C1", label="95 % interval")
    sop.axhline(0.5, color="0.5", ls="--", label="chance")
    sop.set(ylabel="sentence-order accuracy", xlabel="optimizer step")
    for axes in (mlm, sop):
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def megabytes(paths: Iterable[Path]) -> float:
    """Size of files, and of all files in folders, as they lie on the disk, in MB."""
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def read(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))
