"""Counts as PNG files. All writing in them is English: a machine may lack a Chinese font."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from data_tools.samples.columns import I64
from data_tools.samples.preparation import SPLITS
from data_tools.shards.manifest import Manifest
from data_tools.statistics.counts import KINDS, ORDERS, RATE_BINS, SplitCounts

_FEWEST = 100  # tokens at a position that is plotted
_LONGEST_UNIT = 12
_MOST_SOURCES = 30


def plot(folder: Path, manifest: Manifest, counts: dict[str, SplitCounts]) -> list[Path]:
    """Write the plots into a folder, made if need be; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "samples": _samples(counts),
        "masks": _masks(manifest, counts),
        "tokens": _tokens(counts),
        "documents": _documents(manifest),
        "sources": _sources(manifest, counts),
    }
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def _figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.5 * columns, 3.8 * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.3)
    return figure, axes


def _samples(counts: dict[str, SplitCounts]) -> Figure:
    figure, (lengths, words, orders) = _figure(1, 3)
    for name, of in counts.items():
        _histogram(lengths, of.lengths, name)
        _histogram(words, of.words, name)
    lengths.set(title="tokens of a sample", xlabel="tokens, special ones included", ylabel="share of samples")
    words.set(title="units to mask of a sample", xlabel="words", ylabel="share of samples")
    _bars(orders, ORDERS, {name: of.orders for name, of in counts.items()})
    orders.set(title="order of the segments", ylabel="share of samples")
    return figure


def _masks(manifest: Manifest, counts: dict[str, SplitCounts]) -> Figure:
    figure, (rates, kinds, units, positions) = _figure(2, 2)
    config = manifest.config["masks"]
    for name, of in counts.items():
        _histogram(rates, of.rates, name, 100 / RATE_BINS)
        positions.plot(*by_position(of), label=name, linewidth=1)
    rates.set(title="masked share of a sample", xlabel="percent of its tokens", ylabel="share of samples")
    rates.axvline(100 * config["rate"], color="black", linestyle=":", label="wanted")
    rates.set_xlim(0, min(100, 300 * config["rate"]))
    rates.legend()
    positions.axhline(config["rate"], color="black", linestyle=":", label="wanted")
    positions.set(title="masked share by position", xlabel="position in the sample")
    positions.set_ylim(0, min(1, 2 * config["rate"]))
    positions.yaxis.set_major_formatter(PercentFormatter(1))
    positions.legend()
    kept = 1 - config["mask_share"] - config["random_share"]
    wanted = {"wanted": np.array([config["mask_share"], config["random_share"], kept])}
    _bars(kinds, KINDS, wanted | {name: of.kinds.sum(axis=0) for name, of in counts.items()})
    kinds.set(title="what stands at a masked token", ylabel="share of masked tokens")
    lengths = [*map(str, range(1, _LONGEST_UNIT)), f"{_LONGEST_UNIT}+"]
    train = counts["train"]
    _bars(units, lengths, {"units": _clipped(train.units), "neighbouring masked tokens": _clipped(train.runs)})
    units.set(title="lengths of what is masked (train)", xlabel="tokens", ylabel="share")
    return figure


def by_position(counts: SplitCounts) -> tuple[I64, npt.NDArray[np.float64]]:
    """Positions, and the share of their tokens that is masked; without those of fewer than 100 tokens, which few
    samples are long enough for: chance alone moves the share of so few by points."""
    places = np.flatnonzero(counts.maskable >= _FEWEST)
    masked = counts.masked[:, places].sum(axis=0)
    return places, masked / (counts.maskable[places] * len(counts.masked))


def _tokens(counts: dict[str, SplitCounts]) -> Figure:
    figure, (zipf, coverage) = _figure(1, 2)
    for name, of in counts.items():
        frequencies = np.sort(of.unigram[of.unigram > 0])[::-1]
        ranks = np.arange(1, len(frequencies) + 1)
        zipf.loglog(ranks, frequencies, label=name)
        coverage.semilogx(ranks, np.cumsum(frequencies) / max(int(frequencies.sum()), 1), label=name)
    zipf.set(title="frequency of tokens by rank", xlabel="rank", ylabel="occurrences")
    coverage.set(title="share of the text in the most frequent tokens", xlabel="tokens, by rank")
    coverage.yaxis.set_major_formatter(PercentFormatter(1))
    zipf.legend()
    coverage.legend()
    return figure


def _documents(manifest: Manifest) -> Figure:
    rows = {f"kept: {name}": manifest.splits[name].documents for name in SPLITS}
    rows |= {f"rejected: {reason}": count for reason, count in sorted(manifest.rejected.items())}
    figure, (axes,) = _figure(1, 1)
    bars = axes.barh(list(rows), list(rows.values()), color=["C0" if row.startswith("kept") else "C3" for row in rows])
    axes.bar_label(bars, [f"{count:,}" for count in rows.values()], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(title=f"{manifest.documents_read:,} documents read", xlabel="documents")
    return figure


def _sources(manifest: Manifest, counts: dict[str, SplitCounts]) -> Figure:
    """The largest sources; one whose name is not in ASCII has its number, which the tables explain."""
    total = np.sum([of.sources for of in counts.values()], axis=0)
    largest = np.argsort(-total, kind="stable")[:_MOST_SOURCES]
    labels = [name if (name := manifest.sources[number]).isascii() else f"#{number}" for number in largest.tolist()]
    figure, (axes,) = _figure(1, 1)
    figure.set_figheight(1.5 + 0.25 * len(labels) * len(counts))
    height = 0.8 / len(counts)
    for row, (name, of) in enumerate(counts.items()):
        shares = of.sources[largest] / max(int(of.sources.sum()), 1)
        axes.barh(np.arange(len(labels)) + row * height, shares, height, label=name)
    axes.set_yticks(np.arange(len(labels)) + height * (len(counts) - 1) / 2, labels)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set(title="sources", xlabel="share of tokens")
    axes.legend()
    return figure


def _histogram(axes: Axes, histogram: I64, label: str, scale: float = 1.0) -> None:
    last = int(np.flatnonzero(histogram)[-1]) + 1
    share = histogram[:last] / histogram.sum()
    axes.stairs(share, scale * (np.arange(last + 1) - 0.5), label=label)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()


def _bars(axes: Axes, labels: list[str] | tuple[str, ...], groups: dict[str, np.ndarray]) -> None:
    """Bars side by side, the shares of each group."""
    width = 0.8 / len(groups)
    places = np.arange(len(labels))
    for number, (name, values) in enumerate(groups.items()):
        shares = np.asarray(values) / max(np.sum(values), 1e-9)
        axes.bar(places + (number - (len(groups) - 1) / 2) * width, shares, width, label=name)
    axes.set_xticks(places, labels)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend()


def _clipped(histogram: I64) -> I64:
    """Counts of lengths from one, all long ones together."""
    return np.concatenate([histogram[1:_LONGEST_UNIT], [histogram[_LONGEST_UNIT:].sum()]])
