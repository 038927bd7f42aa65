"""The curves that a run left for TensorBoard, as one picture: python benchmarks/curves.py RUN --output curves.png"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

AROUND = 12  # logged lines on either side of one that a curve is the mean of
# A panel's title, whether its axis is logarithmic, and the tags that it shows.
PANELS = (
    ("masked-word loss (nats)", False, ("mlm", "heldout_mlm")),
    ("sentence-order accuracy", False, ("sop_accuracy", "heldout_sop_accuracy")),
    ("masked-word accuracy", False, ("mlm_accuracy", "heldout_mlm_accuracy")),
    ("learning rate", False, ("lr",)),
    ("gradient norm", True, ("grad_norm",)),
    ("tokens/s", False, ("tokens_per_s",)),
)


def curves(run: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values by the last part of a tag; where a run went on after a kill, what it repeated stands once.

    Raises ValueError where there are none.
    """
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={SCALARS: 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        values = {event.step: event.value for event in events.Scalars(tag)}
        found[tag.rpartition("/")[2]] = (sorted(values), [values[step] for step in sorted(values)])
    if not found:
        raise ValueError(f"{run}/tensorboard holds no curves")
    return found


def smoothed(values: list[float]) -> list[float]:
    """The mean of each value and its neighbours."""
    windows = (values[max(0, place - AROUND) : place + AROUND + 1] for place in range(len(values)))
    return [statistics.mean(window) for window in windows]


def draw(found: dict[str, tuple[list[int], list[float]]], title: str) -> Figure:
    """All panels; points are held out."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    figure.suptitle(title)
    for axes, (name, logarithmic, tags) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for tag in tags:
            steps, values = found.get(tag, ([], []))
            if tag.startswith("heldout"):
                axes.plot(
                    steps, values, "o-", color="C1", ms=3, label=f"held out, at last {values[-1]:.3f}" if values else ""
                )
            elif tag == "lr":
                axes.plot(steps, values)
            else:
                axes.plot(steps, values, color="C0", alpha=0.25)
                axes.plot(steps, smoothed(values), color="C0", label="training" if len(tags) > 1 else None)
        axes.set(title=name, xlabel="step", yscale="log" if logarithmic else "linear")
        axes.spines[["top", "right"]].set_visible(False)
        if len(tags) > 1:
            axes.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--title", default="", help="of the picture")
    parser.add_argument("--output", type=Path, required=True, help="the PNG file to write")
    options = parser.parse_args()
    draw(curves(options.run), options.title).savefig(options.output, dpi=90)


if __name__ == "__main__":
    main()
