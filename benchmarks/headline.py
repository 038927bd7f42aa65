"""What compressing costs and brings: the first table of README.md, and its picture, of figures in docs/results.

python benchmarks/headline.py [--results docs/results] [--picture docs/images/headline.png]

Of the models that benchmarks/study.py fine-tunes for longer: parameters, and their share of the teacher's; speed beside
the teacher's in PyTorch (transformers, fp32) and in ONNX Runtime (int8), on one thread, at batch 32 and 128 tokens, as
benchmarks/inference.py has it; the mean score of the tasks, its share of the teacher's, and the share that is kept of
what the teacher is above random weights of the model's own shape. Size, speed and floor hold for all of a shape.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
BASE, SMALL = "transformers", "onnx int8"
LENGTH = "128"  # tokens of a sample
# What they are called in the picture.
MODELS = {
    "teacher": "teacher, BERT of 12 layers",
    "albert of 12": "ALBERT of 12 layers",
    "student": "student, 6 of its layers",
    "narrow": "narrow student",
    "control": "control: no teacher",
}
SHAPES = {"control": "student"}  # whose size, speed and floor are those of another
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


def cells(study: Mapping[str, Any], inference: Mapping[str, Any]) -> dict[str, list[str]]:
    """What stands behind each model's name."""
    rows, fast = study["longer"], speeds(inference)
    base, (teacher, _) = rows["teacher"]["parameters"], rows["teacher"]["mean"]
    found = {}
    for name in MODELS:
        shape, parameters, (mean, around) = SHAPES.get(name, name), rows[name]["parameters"], rows[name]["mean"]
        floor = rows.get(f"{shape}'s floor")
        lead = share((mean - floor["mean"][0]) / (teacher - floor["mean"][0])) if floor else ""
        found[name] = [
            f"{parameters / 1e6:.1f} M",
            share(parameters / base),
            *(f"{fast[shape][form]:.1f}x" for form in (BASE, SMALL)),
            f"{mean:.1f} ± {around:.1f}",
            share(mean / teacher),
            lead,
            PAPER.get(name, ""),
        ]
    return found


def share(of_one: float) -> str:
    """In per cent."""
    return f"{100 * of_one:.0f} %"


def draw(study: Mapping[str, Any], inference: Mapping[str, Any]) -> Figure:
    """Score, fine-tuned for longer, against speed: a line leads from a model in PyTorch to the same in int8."""
    rows, fast = study["longer"], speeds(inference)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, told) in enumerate(MODELS.items()):
        (mean, around), color, shape = rows[name]["mean"], f"C{number}", SHAPES.get(name, name)
        ends = [fast[shape][form] for form in (BASE, SMALL)]
        label = f"{told}, {rows[name]['parameters'] / 1e6:.1f} M"
        axes.plot(ends, [mean, mean], color=color, linewidth=1)
        axes.errorbar(ends[:1], [mean], yerr=[around], fmt="o", color=color, markerfacecolor="white", capsize=3)
        axes.plot(ends[1:], [mean], "o", color=color, label=label)
    axes.axhline(
        rows["student's floor"]["mean"][0], color="0.5", linestyle="--", linewidth=1, label="the student's floor"
    )
    axes.set(xscale="log", xlabel="times the teacher's samples/s in PyTorch: fp32 (○), int8 in ONNX (●)")
    axes.set_ylabel("mean of three tasks, %")
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results", help="of study.json and inference.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/headline.png", help="file to write")
    options = parser.parse_args()
    study, inference = (json.loads((options.results / f"{name}.json").read_text()) for name in ("study", "inference"))
    draw(study, inference).savefig(options.picture, dpi=110, metadata={"Software": None})
    for name, row in cells(study, inference).items():
        print(f"| {' | '.join([name, *row])} |")


if __name__ == "__main__":
    main()
