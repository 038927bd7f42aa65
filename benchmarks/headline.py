"""What compressing costs and brings: the first table of README.md, and its picture, of figures in docs/results.

python benchmarks/headline.py [--results docs/results] [--picture docs/images/headline.png]

Of the models that benchmarks/study.py fine-tunes for longer: parameters, and their share of the teacher's; speed beside
the teacher's in PyTorch (transformers, fp32) and in ONNX Runtime (int8), on one thread, at batch 32 and 128 tokens, as
benchmarks/inference.py has it; the mean score of the tasks, its share of the teacher's, and the share that is kept of
what the teacher is above random weights of the model's own shape, with 95 % intervals of fine-tuning's seeds. Size,
speed and floor hold for all of a shape. The second table is that of docs/distillation.md: the same task by task.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from litebert.markdown import markdown
from litebert.report.results import Score
from litebert.report.trade import share

ROOT = Path(__file__).parents[1]
RESULTS = ("study", "inference", "int8")
BASE, SMALL = "transformers", "onnx int8"
LENGTH = "128"  # tokens of a sample
RANDOM, NARROW, SHARED = "student's floor", "narrow's floor", "albert of 12's floor"
KEPT = ("kept of its score", "of its lead")
HEADS = ("", "parameters", "of the teacher's", "fp32", "int8", "tasks", *KEPT, "in the paper")
# What they are called in the table and the picture.
MODELS = {
    "teacher": "teacher, BERT of 12 layers",
    "albert of 12": "ALBERT of 12 layers, its width",
    "student": "student, 6 of its layers",
    "narrow": "narrow student, 4 layers of 128",
    "control": "control: no teacher",
    RANDOM: "random weights of the student's shape",
}
SHAPES = {
    "control": "student",
    RANDOM: "student",
    NARROW: "narrow",
    SHARED: "albert of 12",
}  # whose size, speed and floor are those of another
PAPER = {  # parameters, speed, score: Sanh et al. 2019, tables 1 and 3; Lan et al. 2020, table 2, base beside BERT's
    "student": "60 %, 1.6x, 97 %",
    "albert of 12": "11 %, –, 97 %",
}


def speeds(inference: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Samples/s by model and form, over the teacher's in PyTorch."""
    of = {name: model["samples_per_s"] for name, model in inference["models"].items()}
    base = of["teacher"][f"{BASE}, 1 thread"][LENGTH][1]
    return {
        name: {form: found[f"{form}, 1 thread"][LENGTH][1] / base for form in (BASE, SMALL)}
        for name, found in of.items()
    }


def table(study: Mapping[str, Any], inference: Mapping[str, Any]) -> list[list[str]]:
    """Rows of README's, heads first."""
    rows, fast = study["longer"], speeds(inference)
    found = [list(HEADS)]
    for name, label in MODELS.items():
        shape = SHAPES.get(name, name)
        parameters, (mean, around) = rows[shape]["parameters"], rows[name]["mean"]
        found.append(
            [
                label,
                f"{parameters / 1e6:.1f} M",
                percent(parameters / rows["teacher"]["parameters"]),
                *(f"{fast[shape][form]:.1f}x" for form in (BASE, SMALL)),
                f"{mean:.1f} ± {around:.1f}",
                *kept(name, study),
                PAPER.get(name, ""),
            ]
        )
    return found


def by_task(study: Mapping[str, Any]) -> list[list[str]]:
    """Rows of what was fine-tuned for longer, heads first: each task, their mean, and what is kept."""
    rows = study["longer"]
    found = [["", *rows["teacher"]["tasks"], "mean", *KEPT]]
    floors = {NARROW: "random weights of the narrow one's shape", SHARED: "random weights of the ALBERT's shape"}
    for name, label in (MODELS | floors).items():
        scores = (*rows[name]["tasks"].values(), rows[name]["mean"])
        found.append([label, *("{:.1f} ± {:.1f}".format(*score) for score in scores), *kept(name, study)])
    return found


def kept(name: str, study: Mapping[str, Any]) -> tuple[str, str]:
    """Of the teacher's score, and of its lead over the floor of the model's shape."""
    seeds = study["settings"]["longer"]["train.seeds"]
    scores = {
        each: Score(mean, (mean - around, mean + around), seeds=seeds)
        for each, (mean, around) in ((each, row["mean"]) for each, row in study["longer"].items())
    }
    own, teacher, floor = scores[name], scores["teacher"], f"{SHAPES.get(name, name)}'s floor"
    if name == "teacher":
        return percent(1), percent(1)
    if name == floor:
        return told(share(own, teacher)), percent(0)
    return told(share(own, teacher)), told(share(own, teacher, scores[floor]))


def told(score: Score) -> str:
    """In per cent, with its interval."""
    assert score.interval
    return f"{percent(score.mean)} ({'–'.join(f'{100 * end:.0f}' for end in score.interval)})"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def lost(int8: Mapping[str, Any]) -> dict[str, float]:
    """What int8 changes in the mean score, in points, of the models that it was measured of."""
    return {
        name: sum(100 * (task["int8"] - task["fp32"]) for task in tasks.values()) / len(tasks)
        for name, tasks in int8["scores"].items()
    }


def draw(study: Mapping[str, Any], inference: Mapping[str, Any], int8: Mapping[str, Any]) -> Figure:
    """Score, fine-tuned for longer, against speed: a line leads from a model in PyTorch to the same in int8."""
    rows, fast, points = study["longer"], speeds(inference), lost(int8)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, label) in enumerate((name, label) for name, label in MODELS.items() if name != RANDOM):
        (mean, around), shape, color = rows[name]["mean"], SHAPES.get(name, name), f"C{number}"
        base, small = (fast[shape][form] for form in (BASE, SMALL))
        end, measured = mean + points.get(name, 0), name in points
        axes.plot([base, small], [mean, end], color=color, linewidth=1, linestyle="-" if measured else ":")
        axes.errorbar([base], [mean], yerr=[around], fmt="o", color=color, capsize=3)
        axes.plot([small], [end], "D", color=color, markerfacecolor=color if measured else "white")
        size = f"{rows[name]['parameters'] / 1e6:.1f} M parameters"
        for text, above in ((label, 4), (size, -12)):
            axes.annotate(text, (base, mean), (8, above), textcoords="offset points", color=color, fontsize=9)
    _floor(axes, rows[RANDOM]["mean"])
    _legend(axes)
    axes.set(xscale="log", xlim=(0.9, 16), xlabel="times the teacher's samples/s in PyTorch")
    axes.set_ylabel("mean of three tasks, %")
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _floor(axes: Axes, score: tuple[float, float]) -> None:
    """What random weights come to, with its interval."""
    mean, around = score
    axes.axhline(mean, color="0.5", linestyle="--", linewidth=1)
    axes.axhspan(mean - around, mean + around, color="0.5", alpha=0.12, linewidth=0)
    axes.annotate(
        MODELS[RANDOM],
        (1, mean),
        (-4, 4),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        horizontalalignment="right",
        color="0.35",
        fontsize=9,
    )


def _legend(axes: Axes) -> None:
    """What the marks mean, whatever their colour."""
    for mark, face, label in (
        ("o", "0.35", "fp32, PyTorch"),
        ("D", "0.35", "int8, ONNX Runtime"),
        ("D", "white", "int8, score not measured: drawn at that of fp32"),
    ):
        axes.plot([], [], mark, color="0.35", markerfacecolor=face, label=label)
    axes.legend(loc="upper right", frameon=False, fontsize=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results", help=f"of {', '.join(RESULTS)}.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/headline.png", help="file to write")
    options = parser.parse_args()
    study, inference, int8 = (json.loads((options.results / f"{name}.json").read_text()) for name in RESULTS)
    draw(study, inference, int8).savefig(options.picture, dpi=110, metadata={"Software": None})
    for rows in (table(study, inference), by_task(study)):
        print(markdown(rows), end="\n\n")


if __name__ == "__main__":
    main()
