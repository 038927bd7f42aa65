"""What compressing costs and brings: the first table of README.md, and its picture, of figures in docs/results.

python benchmarks/headline.py [--results docs/results] [--picture docs/images/headline.png]

Of each model of benchmarks/study.py: its parameters, and their share of the teacher's; its speed beside the teacher's
in PyTorch (transformers, fp32) and in ONNX Runtime (int8), at batch 32 and the longest length that
benchmarks/inference.py has; the mean score of the tasks, fine-tuned as all are, and for longer, as some are; of the
longer one that there is, the share of the teacher's, and the share of what the teacher has above the floor. Speeds of
the student hold for all of its shape.
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
# Who is shown, by what it is called in the picture; none is in the table alone.
MODELS = {
    "teacher": "teacher, BERT of 12 layers",
    "student": "student, 6 of its layers",
    "narrow": "narrow student",
    "albert": "",
    "control": "control: no teacher",
    "no pretraining": "",
}
SHAPES = {"control": "student", "no pretraining": "student"}  # whose size and speed are those of another
PAPER = {  # parameters, speed, score: Sanh et al. 2019, tables 1 and 3; Lan et al. 2020, table 2, base beside BERT's
    "student": "60 %, 1.6x, 97 %",
    "albert": "11 %, –, 97 %",
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
    short, longer, fast = study["tasks"], study["longer"], speeds(inference)
    found = {}
    for name in MODELS:
        shape = SHAPES.get(name, name)
        parameters, base = short[shape]["parameters"], short["teacher"]["parameters"]
        rows = longer if name in longer else short
        (mean, _), (teacher, _), (floor, _) = (rows[each]["mean"] for each in (name, "teacher", "no pretraining"))
        found[name] = [
            f"{parameters / 1e6:.1f} M",
            f"{parameters / base:.0%}".replace("%", " %"),
            f"{fast[shape][BASE]:.1f}x",
            f"{fast[shape][SMALL]:.1f}x",
            *("{:.1f} ± {:.1f}".format(*each[name]["mean"]) if name in each else "" for each in (short, longer)),
            f"{mean / teacher:.0%}".replace("%", " %"),
            f"{(mean - floor) / (teacher - floor):.0%}".replace("%", " %"),
            PAPER.get(name, ""),
        ]
    return found


def draw(study: Mapping[str, Any], inference: Mapping[str, Any]) -> Figure:
    """Score, fine-tuned for longer, against speed: a line leads from a model in PyTorch to the same in int8."""
    rows, fast = study["longer"], speeds(inference)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, told) in enumerate((name, told) for name, told in MODELS.items() if told):
        (mean, around), color, shape = rows[name]["mean"], f"C{number}", SHAPES.get(name, name)
        ends = [fast[shape][form] for form in (BASE, SMALL)]
        label = f"{told}, {rows[name]['parameters'] / 1e6:.1f} M"
        axes.plot(ends, [mean, mean], color=color, linewidth=1)
        axes.errorbar(ends[:1], [mean], yerr=[around], fmt="o", color=color, markerfacecolor="white", capsize=3)
        axes.plot(ends[1:], [mean], "o", color=color, label=label)
    axes.axhline(
        rows["no pretraining"]["mean"][0], color="0.5", linestyle="--", linewidth=1, label="floor: no pretraining"
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
