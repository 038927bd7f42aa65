"""What compressing costs and brings: the first table of README.md, and its picture, of figures in docs/results.

python benchmarks/headline.py [--results docs/results] [--picture docs/images/headline.png]

Of each model of benchmarks/study.py: its parameters, its speed beside the teacher's in PyTorch (transformers, fp32) and
in ONNX Runtime (int8), at batch 32 and the longest length that benchmarks/inference.py has; the mean score of the
tasks, the share of the teacher's that this is, and the share of what the teacher has above the floor. Speeds of the
student hold for all of its shape.
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
SHAPES = {"control": "student", "no pretraining": "student"}  # whose speed is that of another
PAPER = {  # parameters, speed, share of the score: Sanh et al. 2019, tables 1 and 3; Lan et al. 2020, table 2
    "student": "60 %, 1.6x, 97 %",
    "albert": "11 %, 1.2x, 97 %",
}


def speeds(inference: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Samples/s by model and form, over the teacher's in PyTorch."""
    thread = f"{min(inference['threads'])} thread"
    of = {name: model["samples_per_s"] for name, model in inference["models"].items()}
    length = max(of["teacher"][f"{BASE}, {thread}"], key=int)
    base = of["teacher"][f"{BASE}, {thread}"][length][1]
    return {
        name: {form: found[f"{form}, {thread}"][length][1] / base for form in (BASE, SMALL)}
        for name, found in of.items()
    }


def cells(study: Mapping[str, Any], inference: Mapping[str, Any]) -> dict[str, list[str]]:
    """What stands behind each model's name."""
    rows, fast = study["longer"], speeds(inference)
    (teacher, _), (floor, _) = rows["teacher"]["mean"], rows["no pretraining"]["mean"]
    parameters = {name: row.get("parameters", rows["student"]["parameters"]) for name, row in rows.items()}
    found = {}
    for name, row in rows.items():
        mean, around = row["mean"]
        speed = fast[SHAPES.get(name, name)]
        found[name] = [
            f"{parameters[name] / 1e6:.1f} M",
            f"{parameters[name] / parameters['teacher']:.0%}",
            f"{speed[BASE]:.1f}x",
            f"{speed[SMALL]:.1f}x",
            f"{mean:.1f} ± {around:.1f}",
            f"{mean / teacher:.0%}",
            f"{(mean - floor) / (teacher - floor):.0%}",
            PAPER.get(name, ""),
        ]
    return found


def draw(study: Mapping[str, Any], inference: Mapping[str, Any]) -> Figure:
    """Score against speed; a line leads from each model in PyTorch to itself in int8."""
    rows, fast = study["longer"], speeds(inference)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    names = {"teacher": "teacher, BERT of 12 layers", "student": "student, 6 of its layers", "albert": "ALBERT student"}
    names |= {"narrow": "narrow student", "control": "control: no teacher"}
    for number, (name, told) in enumerate(names.items()):
        (mean, around), color = rows[name]["mean"], f"C{number}"
        ends = [fast[SHAPES.get(name, name)][form] for form in (BASE, SMALL)]
        axes.plot(ends, [mean, mean], color=color, linewidth=1)
        axes.errorbar(ends[:1], [mean], yerr=[around], fmt="o", color=color, markerfacecolor="white", capsize=3)
        axes.plot(ends[1:], [mean], "o", color=color, label=f"{told}, {rows[name]['parameters'] / 1e6:.1f} M")
    floor, _ = rows["no pretraining"]["mean"]
    axes.axhline(floor, color="0.5", linestyle="--", linewidth=1, label="floor: no pretraining")
    axes.set(
        xscale="log",
        xlabel="times the teacher's samples/s in PyTorch (○), in int8 (●)",
        ylabel="mean of three tasks, %",
    )
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "docs/results", help="folder of study.json, inference.json"
    )
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/headline.png", help="file to write")
    options = parser.parse_args()
    study, inference = (json.loads((options.results / f"{name}.json").read_text()) for name in ("study", "inference"))
    draw(study, inference).savefig(options.picture, dpi=110, metadata={"Software": None})
    for name, row in cells(study, inference).items():
        print(f"| {' | '.join([name, *row])} |")


if __name__ == "__main__":
    main()
