"""Counts as tables of plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from data_tools.samples.columns import I64
from data_tools.samples.preparation import SPLITS
from data_tools.shards.manifest import Manifest
from data_tools.statistics.counts import KINDS, ORDERS, RATE_BINS, SplitCounts
from data_tools.text.interface import TextTokenizer

_POSITION_BINS = 8
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def tables(
    manifest: Manifest, counts: dict[str, SplitCounts], tokenizer: TextTokenizer, frequent: int
) -> Iterator[str]:
    """Every table, as text.

    Args:
        frequent: how many of the most frequent tokens are listed.
    """
    splits = list(counts)
    yield _table("corpus", ["", *splits], _corpus(manifest, counts, tokenizer.vocabulary.unk))
    yield _table("documents read", ["", "documents", "share"], _accounted(manifest))
    yield _table(
        "sources",
        ["", "", "split", "documents", "characters", "samples", "tokens", "share"],
        _sources(manifest, counts),
    )
    yield _table(
        "windows of samples beside a fair draw", ["", *manifest.splits[splits[0]].fairness], _fairness(manifest)
    )
    header = ["", "mean", *(f"{quantile:.0%}" for quantile in _QUANTILES), "longest"]
    yield _table("tokens of a sample", header, [[name, *_distribution(counts[name].lengths)] for name in splits])
    yield _table("units to mask of a sample", header, [[name, *_distribution(counts[name].words)] for name in splits])
    yield _table("order of the segments", ["", *ORDERS, "of pairs"], _orders(counts))
    yield _table("masks", ["", "copy", "rate", *KINDS], _masks(manifest, counts))
    yield _table("masked share of a sample, in percent", header, [[name, *_rates(counts[name])] for name in splits])
    yield _table("tokens of a masked unit", ["", "mean", *_SHORT], [[n, *_short(counts[n].units)] for n in splits])
    yield _table(
        "neighbouring masked tokens", ["", "mean", *_SHORT], [[name, *_short(counts[name].runs)] for name in splits]
    )
    positions = [f"{part + 1}/{_POSITION_BINS}" for part in range(_POSITION_BINS)]
    yield _table("masked share by position", ["", *positions], [[name, *_positions(counts[name])] for name in splits])
    yield _table("frequent tokens", ["rank", "token", "count", "share"], _frequent(counts, tokenizer.pieces, frequent))


def _corpus(manifest: Manifest, counts: dict[str, SplitCounts], unk: int) -> list[list[str]]:
    rows: dict[str, list[str]] = {}
    for name, of in counts.items():
        entry = manifest.splits[name]
        text_tokens = max(int(of.unigram.sum()), 1)
        size = sum(shard.bytes for shard in entry.shards)
        for label, value in {
            "documents": f"{entry.documents:,}",
            "characters": f"{entry.characters:,}",
            "samples": f"{entry.samples:,}",
            "tokens, special ones included": f"{entry.tokens:,}",
            "tokens of text": f"{text_tokens:,}",
            "samples of a document": f"{entry.samples / max(entry.documents, 1):.2f}",
            "characters of a token": f"{entry.characters / text_tokens:.3f}",
            "unknown tokens": f"{of.unigram[unk] / text_tokens:.4%}",
            "tokens that occur": f"{int((of.unigram > 0).sum()):,} of {manifest.vocab_size:,}",
            "shards": f"{len(entry.shards):,}",
            "bytes": f"{size:,}",
            "bytes of a token": f"{size / max(entry.tokens, 1):.2f}",
        }.items():
            rows.setdefault(label, []).append(value)
    return [[label, *values] for label, values in rows.items()]


def _accounted(manifest: Manifest) -> list[list[str]]:
    kept = {f"kept: {name}": manifest.splits[name].documents for name in SPLITS}
    rejected = {f"rejected: {reason}": count for reason, count in sorted(manifest.rejected.items())}
    total = {"read": manifest.documents_read}
    rows = [*kept.items(), *rejected.items(), *total.items()]
    return [[name, f"{count:,}", f"{count / max(manifest.documents_read, 1):.2%}"] for name, count in rows]


def _sources(manifest: Manifest, counts: dict[str, SplitCounts]) -> list[list[str]]:
    rows = []
    for number, source in enumerate(manifest.sources):
        for name, of in counts.items():
            found = manifest.splits[name].sources.get(source, {})
            known = (f"{found.get(what, 0):,}" for what in ("documents", "characters", "samples"))
            tokens = int(of.sources[number])
            share = f"{tokens / max(int(of.sources.sum()), 1):.2%}"
            rows.append([source, f"#{number}", name, *known, f"{tokens:,}", share])
    return rows


def _fairness(manifest: Manifest) -> list[list[str]]:
    return [[name, *(f"{value:.4g}" for value in manifest.splits[name].fairness.values())] for name in SPLITS]


def _distribution(histogram: I64, scale: float = 1.0) -> list[str]:
    """Mean, quantiles and maximum of what a histogram counts, the value at each place the place times the scale."""
    ends = np.cumsum(histogram)
    mean = scale * float(histogram @ np.arange(len(histogram))) / max(int(ends[-1]), 1)
    values = [scale * int(np.searchsorted(ends, quantile * ends[-1])) for quantile in _QUANTILES]
    longest = scale * int(np.flatnonzero(histogram)[-1]) if ends[-1] else 0.0
    return [f"{mean:.2f}", *(f"{value:g}" for value in [*values, longest])]


def _orders(counts: dict[str, SplitCounts]) -> list[list[str]]:
    rows = []
    for name, of in counts.items():
        none, follows, changed = of.orders.tolist()
        share = changed / max(follows + changed, 1)
        rows.append([name, f"{none:,}", f"{follows:,}", f"{changed:,}", f"{share:.2%}"])
    return rows


def _masks(manifest: Manifest, counts: dict[str, SplitCounts]) -> list[list[str]]:
    config = manifest.config["masks"]
    kept = 1 - config["mask_share"] - config["random_share"]
    wanted = (config["rate"], config["mask_share"], config["random_share"], kept)
    rows = [["wanted", "", *(f"{share:.2%}" for share in wanted)]]
    for name, of in counts.items():
        for copy, kinds in enumerate(of.kinds):
            rate = of.masked[copy].sum() / max(int(of.maskable.sum()), 1)
            rows.append([name, str(copy), *(f"{share:.2%}" for share in (rate, *(kinds / max(int(kinds.sum()), 1))))])
    return rows


def _rates(of: SplitCounts) -> list[str]:
    return _distribution(of.rates, 100 / RATE_BINS)


_SHORT = ("1", "2", "3", "4", "5", "more")


def _short(histogram: I64) -> list[str]:
    """Mean, and the shares of the small lengths."""
    total = max(int(histogram.sum()), 1)
    mean = float(histogram @ np.arange(len(histogram))) / total
    shares = [*histogram[1:6], histogram[6:].sum()]
    return [f"{mean:.3f}", *(f"{share / total:.2%}" for share in shares)]


def _positions(of: SplitCounts) -> list[str]:
    """The masked share of the tokens in equal parts of the longest sample, over all copies."""
    masked = [part.sum() for part in np.array_split(of.masked.sum(axis=0), _POSITION_BINS)]
    maskable = [part.sum() * len(of.masked) for part in np.array_split(of.maskable, _POSITION_BINS)]
    return [f"{one / max(int(of_all), 1):.2%}" for one, of_all in zip(masked, maskable, strict=True)]


def _frequent(counts: dict[str, SplitCounts], pieces: Sequence[str], number: int) -> list[list[str]]:
    unigram = np.sum([of.unigram for of in counts.values()], axis=0)
    total = max(int(unigram.sum()), 1)
    order = np.argsort(-unigram, kind="stable")[:number]
    return [
        [str(rank + 1), pieces[token], f"{unigram[token]:,}", f"{unigram[token] / total:.3%}"]
        for rank, token in enumerate(order.tolist())
        if unigram[token]
    ]


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    text = [
        "  ".join(
            _padded(cell, width, left=column == 0)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([f"== {title}", *(line.rstrip() for line in text)])


def _width(cell: str) -> int:
    """Columns of a terminal that a cell takes: two for a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in cell)


def _padded(cell: str, width: int, left: bool) -> str:
    space = " " * (width - _width(cell))
    return cell + space if left else space + cell
