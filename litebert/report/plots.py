"""Runs as PNG files: their curves, and what they are worth for what they cost."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from litebert.report.marks import Mark, families, tasks_of, written
from litebert.report.results import Measured, Score, comparable
from litebert.report.runs import Run

DPI, CSS_DPI = 144, 96  # of the files, and as large as they are shown
WIDTH = 10.8  # inches of the page
WINDOWS = 40  # a curve is the mean of a window around each line, so many of which a run is long
WHOLE = {"clip_on": False, "in_layout": False}  # of points that may lie on an edge
POINTS = 2000  # of a curve; more than there are pixels
# A panel's title, whether its values are shares, and the metric: of training, and with heldout_ before it.
CURVES = (
    ("masked-word loss (nats, lower is better)", False, "mlm"),
    ("sentence-order accuracy", True, "sop_accuracy"),
    ("next-sentence accuracy", True, "nsp_accuracy"),
    ("same likeliest word as the teacher", True, "agreement"),
    ("learning rate", False, "lr"),
    ("tokens/s", False, "tokens_per_s"),
)


@dataclasses.dataclass(frozen=True)
class Panel:
    """What runs are worth, to be shown against what they cost.

    Attributes:
        title: of what they are worth.
        shares: whether values are shares of 1.
        values: by run; without those that have none.
        floors: of what each run is to be above, by run; perhaps none.
    """

    title: str
    shares: bool
    values: Mapping[str, Score]
    floors: Mapping[str, float]


def panels(runs: Sequence[Run], measured: Mapping[str, Measured]) -> list[Panel]:
    """The held-out loss, and every task, of the runs that have them; those that fewer than two have are left out.

    Of a task those are shown that compare with the first. Tasks have the numbers of their order in the tables.
    """
    losses = {run.name: its.mlm_loss for run in runs if (its := measured[run.name].heldout)}
    unigram = {run.name: its.unigram_loss_masked for run in runs if (its := measured[run.name].heldout)}
    shown = []
    if comparable(runs, measured):
        values = {name: Score(loss, None) for name, loss in losses.items()}
        shown.append(Panel("held-out loss (nats, lower is better)", False, values, unigram))
    for number, task in enumerate(tasks_of(measured), start=1):
        every = {run.name: scores for run in runs for scores in measured[run.name].tasks if scores.task == task}
        if not every:
            continue
        first = next(iter(every.values()))
        of_task = {name: scores for name, scores in every.items() if not scores.unlike(first)}
        floors = {name: scores.floor.mean for name, scores in of_task.items() if scores.floor}
        values = {name: scores.model for name, scores in of_task.items()}
        title = f"{written(task, f'task {number}')}: {written(first.metric, 'score')}"
        shown.append(Panel(title, True, values, floors))
    return [panel for panel in shown if len(panel.values) > 1]


def against(marks: Sequence[Mark], shown: Sequence[Panel], costs: Mapping[str, float], title: str) -> Figure:
    """Panels with a point for each mark whose run has both, with its interval; a dash where its floor is.

    Args:
        costs: of the runs, by name, on the axis below.
        title: of that axis.
    """
    figure, every = _figure(len(shown), 2 if len(shown) in (2, 4) else 3, 3.0)
    for axes, panel in zip(every, shown, strict=False):
        for mark in marks:
            if (name := mark.run.name) in panel.values and name in costs:
                _point(axes, costs[name], panel.values[name], panel.floors.get(name), mark.color)
        axes.set(title=panel.title, xlabel=title, xscale="log")
        axes.margins(0.15)
        _ticks(axes)
        _finish(axes, panel.shares)
    pointed = {name for panel in shown for name in panel.values if name in costs}
    _legend(figure, every[0], [mark for mark in marks if mark.run.name in pointed], "o")
    return figure


def timed(runs: Sequence[Run], measured: Mapping[str, Measured]) -> tuple[str, dict[str, float]] | None:
    """Median milliseconds by run, in the form and at the length that most runs were timed in; None without any.

    Of several such forms it is the fastest, of such lengths the middle one. All are from one file: timed in turn.
    """
    found: dict[tuple[Path, str, int], dict[str, float]] = {}
    for run in runs:
        for speed in measured[run.name].speeds:
            for length, (_, median, _) in speed.milliseconds.items():
                found.setdefault((speed.file, speed.form, length), {})[run.name] = median
    if not found:
        return None
    most = max(map(len, found.values()))
    shared = {key: by_run for key, by_run in found.items() if len(by_run) == most}
    file = next(iter(shared))[0]
    lengths = sorted({length for other, _, length in shared if other == file})
    middle = lengths[len(lengths) // 2]
    by_form = {form: by_run for (other, form, length), by_run in shared.items() if (other, length) == (file, middle)}
    fastest = min(by_form, key=lambda form: sum(by_form[form].values()))
    return f"{written(fastest, 'one form')}, {middle} tokens", by_form[fastest]


def drawn(runs: Sequence[Run]) -> list[tuple[str, bool, str]]:
    """Those of CURVES that any of the runs has."""
    return [curve for curve in CURVES if any(len(run.curve(curve[2])[0]) for run in runs)]


def curves(marks: Sequence[Mark]) -> Figure:
    """What the runs have written of themselves, by step: training as lines, held-out documents as points."""
    shown = drawn([mark.run for mark in marks])
    figure, every = _figure(len(shown), 2, 2.6)
    for axes, (title, shares, name) in zip(every, shown, strict=False):
        for mark in marks:
            (steps, values), color = mark.run.curve(name), mark.color
            axes.plot(*thinned(steps, values), color=color, alpha=0.2, linewidth=0.8)
            axes.plot(*thinned(steps, smoothed(values)), color=color, linewidth=1.3)
            heldout = mark.run.curve(f"heldout_{name}")
            axes.plot(*heldout, "o", color=color, markersize=5, markeredgecolor="white", **WHOLE)
        axes.set(title=title, xlabel="step")
        _finish(axes, shares)
    having = [mark for mark in marks if any(len(mark.run.curve(name)[0]) for _, _, name in shown)]
    _legend(figure, every[0], having, "-")
    return figure


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean of each value and its neighbours, as many on either side as are there."""
    around = len(values) // WINDOWS // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    begins, ends = np.maximum(places - around, 0), np.minimum(places + around + 1, len(values))
    return (sums[ends] - sums[begins]) / (ends - begins)


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """No more points than can be seen, the last among them."""
    every = max(1, math.ceil(len(steps) / POINTS))
    return steps[::-1][::every][::-1], values[::-1][::every][::-1]


def png(figure: Figure) -> bytes:
    """A figure as a file; the same figure is the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def _figure(panels: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """As wide as the page, or its part where a row is not full; ``height``: of a row, in inches."""
    rows, across = math.ceil(panels / columns), min(panels, columns)
    figure = Figure(figsize=(WIDTH / columns * across if across > 1 else WIDTH / 2, height * rows + 0.4))
    figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.1)
    return figure, [figure.add_subplot(rows, across, place + 1) for place in range(panels)]


def _point(axes: Axes, cost: float, value: Score, floor: float | None, color: str) -> None:
    if value.interval:
        axes.plot([cost, cost], value.interval, color=color, linewidth=1.3)
    if floor is not None:
        axes.plot([cost], [floor], "_", color=color, markersize=14, markeredgewidth=1.3, **WHOLE)
    axes.plot([cost], [value.mean], "o", color=color, markersize=6, **WHOLE)


def _finish(axes: Axes, shares: bool) -> None:
    axes.title.set(fontsize=10, fontfamily=families())
    axes.xaxis.label.set(fontsize=9, fontfamily=families())
    axes.tick_params(which="both", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if shares:
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low), min(1.0, high))  # a margin, or an interval of few seeds, goes beyond
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def _ticks(axes: Axes) -> None:
    """So few on a logarithmic axis that their labels have room, and two at least."""
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    several = LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=5)
    axes.xaxis.set_major_locator(MaxNLocator(4) if decades < 0.8 else several)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.3g}")


def _legend(figure: Figure, axes: Axes, marks: Sequence[Mark], marker: str) -> None:
    """Which colour is which run, in as many columns as there is room for."""
    handles = [axes.plot([], [], marker, color=mark.color)[0] for mark in marks]
    labels, font = [mark.label for mark in marks], {"size": 9, "family": families()}
    for columns in range(len(marks), 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, prop=font)
        if legend.get_window_extent().width <= figure.bbox.width:
            return
        if columns > 1:
            legend.remove()
