"""The tables of a report: what is in the cells, as text. What a run has no figure for is left empty."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_tools.shards.manifest import Manifest
from litebert.evaluate.heldout import Heldout
from litebert.recipe import flat
from litebert.report.corpora import Text
from litebert.report.description import architecture, objective, training
from litebert.report.fields import Interval, Quartiles
from litebert.report.results import Measured, Score
from litebert.report.runs import SHORT, Run, short
from litebert.report.trade import PLAIN, Trade, counterpart, kept, timed_as, times

SOURCES = 12  # of a text that have a row each
DIGITS = 64  # hexadecimal, of a SHA-256


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts in rows, under heads; the first column says what a row is of."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        """Without the columns in which no row has anything."""
        kept = [place for place in range(len(heads)) if not place or any(row[place] for row in rows)]
        return cls([heads[place] for place in kept], [[row[place] for place in kept] for row in rows])


def headline(runs: Sequence[Run], measured: Mapping[str, Measured]) -> Table:
    """A row a run: its size and its figures on held-out documents; a star marks those of its own last evaluation."""
    heads = ["run", "parameters", "steps", "MLM loss", "unigram", "below it", "MLM accuracy", "SOP accuracy"]
    heads += ["NSP accuracy", "KL from teacher", "same word"]
    rows = []
    for run in runs:
        its = measured[run.name].heldout
        shown = _measured(its) if its else _own(run.heldout)
        step = f"{measured[run.name].step if its else run.step:,}"
        rows.append([run.name, f"{run.parameters:,}", step, *shown])
    return Table.of(heads, rows)


def _measured(its: Heldout) -> list[str]:
    return [
        f"{its.mlm_loss:.3f}",
        f"{its.unigram_loss_masked:.3f}",
        f"{its.unigram_loss_masked - its.mlm_loss:.3f}",
        f"{its.mlm_accuracy:.1%}",
        _share(its.sop_accuracy, its.sop_interval),
        _share(its.nsp_accuracy, its.nsp_interval),
        "" if its.kl is None else f"{its.kl:.3f}",
        _share(its.agreement, None),
    ]


def _own(line: Mapping[str, float]) -> list[str]:
    def shown(name: str, form: str) -> str:
        return f"{line[name]:{form}}*" if name in line else ""

    names = ("heldout_mlm_accuracy", "heldout_sop_accuracy", "heldout_nsp_accuracy")
    words = [shown("heldout_kl", ".3f"), shown("heldout_agreement", ".1%")]
    return [shown("heldout_mlm", ".3f"), "", "", *(shown(name, ".1%") for name in names), *words]


def trade(found: Sequence[Trade]) -> Table:
    """A row a run: what it keeps of its teacher, and what it saves; none where no score and no speed compares."""
    heads = ["run", "beside", "parameters", "score", "of the teacher's", "of its lead over the floor"]
    heads += ["times as fast", "in int8"]
    several = len({its.teacher for its in found}) > 1
    rows = [
        [
            its.run,
            its.teacher if several else "",
            f"{its.size:.0%}",
            _score(its.score),
            *map(_kept, (its.kept, its.lead)),
            *map(_times, (its.plain, its.small)),
        ]
        for its in found
    ]
    return Table.of(heads, rows if any(its.score or its.plain or its.small for its in found) else [])


def tasks(runs: Sequence[Run], measured: Mapping[str, Measured], beside: Mapping[str, str]) -> Table:
    """A row for each task and run, on test, in per cent.

    Args:
        beside: the teacher of each run that has one, by name.
    """
    heads = ["task", "run", "score", "on test", "of the teacher's", "floor", "above the floor", "of the teacher's lead"]
    heads += ["shuffled", "taught by a fine-tuned teacher", "gained", "seeds", "trained on", "tested on"]
    found = [(scores, run.name) for run in runs for scores in measured[run.name].tasks]
    order = list(dict.fromkeys(scores.task for scores, _ in found))
    rows = []
    for scores, name in sorted(found, key=lambda each: order.index(each[0].task)):
        teacher = counterpart(scores, measured[beside[name]]) if name in beside else None
        whole, lead = kept(scores, teacher) if teacher else (None, None)
        own = [_score(scores.model), _kept(whole), _score(scores.floor), _score(scores.above), _kept(lead)]
        others = map(_score, (scores.shuffled, scores.taught, scores.gained))
        counts = (scores.seeds, scores.trained, scores.tested)
        rows.append([scores.task, name, scores.metric, *own, *others, *(f"{count:,}" for count in counts)])
    return Table.of(heads, rows)


def products(runs: Sequence[Run], measured: Mapping[str, Measured]) -> Table:
    """A row for each fine-tuned model that was kept or exported, on test, in per cent."""
    heads = ["task", "run", "learnt from", "score", "in fp32", "as exported", "exported as"]
    rows = [
        [
            its.task,
            run.name,
            "labels and a teacher" if its.taught else "labels",
            its.metric,
            f"{100 * its.whole:.1f}",
            "" if its.kept is None else f"{100 * its.kept:.1f}",
            its.form,
        ]
        for run in runs
        for its in measured[run.name].products
    ]
    return Table.of(heads, rows)


def speeds(runs: Sequence[Run], measured: Mapping[str, Measured], beside: Mapping[str, str]) -> Table:
    """A row for each form of a run's encoder: medians, of latencies with their quartiles.

    Args:
        beside: the teacher of each run that has one, by name; without any, runs are held against the first of them.
    """
    found = [(run.name, its) for run in runs for its in measured[run.name].speeds]
    lengths = sorted({length for _, its in found for length in (*its.milliseconds, *its.samples_per_s)})
    first = found[0][0] if found else ""
    whose = "the teacher" if beside else first
    heads = ["run", "form", "file, MB", "memory, MB"]
    heads += [f"{what}, {length} tokens" for what in ("ms", "samples/s") for length in lengths]
    heads += [f"x {whose}, same form", f"x {whose}, fp32"]
    rows = []
    for name, its in found:
        base = beside.get(name, "" if beside else first)
        others = measured[base].speeds if base else []
        same, plain = timed_as(others, its.threads, its.kind), timed_as(others, its.threads, *PLAIN)
        rows.append(
            [
                name,
                its.form,
                *("" if size is None else f"{size:,.1f}" for size in (its.megabytes, its.memory)),
                *(_quartiles(its.milliseconds.get(length)) for length in lengths),
                *(_three(its.samples_per_s[length][1]) if length in its.samples_per_s else "" for length in lengths),
                *(_times(times(its, other)) for other in (None if name == base else same, plain)),
            ]
        )
    return Table.of(heads, rows)


def cost(runs: Sequence[Run], texts: Mapping[str, Text]) -> Table:
    """A row a run: what it took."""
    heads = [
        "run",
        "state",
        "tokens seen",
        "epochs",
        "tokens/s",
        "hours",
        "sessions",
        "processes",
        "memory, GB",
        "began on",
        "commit",
    ]
    rows = []
    for run in runs:
        text = texts.get(run.fingerprints["data"])
        speeds, memory = run.curve("tokens_per_s")[1], run.curve("memory_gb")[1]
        rows.append(
            [
                run.name,
                "done" if run.done else f"at step {run.step:,} of {run.recipe.train.steps:,}",
                f"{text.tokens(run) / 1e6:,.2f} M" if text else "",
                f"{text.epochs(run):.2f}" if text else "",
                f"{np.median(speeds):,.0f}" if len(speeds) else "",
                f"{sum(run.sessions) / 3600:,.2f}" if run.sessions else "",
                f"{len(run.sessions)}" if run.sessions else "",
                f"{run.ranks}" if run.ranks else "",
                f"{memory.max():.1f}" if len(memory) else "",
                run.devices,
                short(run.commit),
            ]
        )
    return Table.of(heads, rows)


def splits(manifest: Manifest) -> Table:
    """A row for each split of a folder of shards."""
    heads = ["split", "documents", "characters", "samples", "tokens", "sources", "shards", "MB"]
    rows = [
        [
            name,
            *(f"{count:,}" for count in (entry.documents, entry.characters, entry.samples, entry.tokens)),
            *(f"{count:,}" for count in (len(entry.sources), len(entry.shards))),
            f"{sum(shard.bytes for shard in entry.shards) / 1e6:,.1f}",
        ]
        for name, entry in manifest.splits.items()
    ]
    return Table.of(heads, rows)


def rejected(manifest: Manifest) -> Table:
    """What became of the documents that were read."""
    kept = sum(entry.documents for entry in manifest.splits.values())
    reasons = sorted(manifest.rejected.items(), key=lambda item: -item[1])
    counts = {"kept": kept} | {f"rejected: {reason}": count for reason, count in reasons}
    read = max(1, manifest.documents_read)
    rows = [["read", f"{manifest.documents_read:,}", ""]]
    rows += [[name, f"{count:,}", _part(count / read)] for name, count in counts.items()]
    return Table(["documents", "", ""], rows)


def sources(manifest: Manifest) -> Table:
    """The largest sources of the training split, by characters."""
    split = manifest.splits["train"]
    ranked = sorted(split.sources.items(), key=lambda item: -item[1]["characters"])
    shown = [(name, entry["characters"]) for name, entry in ranked[:SOURCES]]
    if rest := ranked[SOURCES:]:
        shown.append((f"{len(rest)} others", sum(entry["characters"] for _, entry in rest)))
    total = max(1, split.characters)
    rows = [[name or "(none)", f"{count:,}", _part(count / total)] for name, count in shown]
    return Table(["source", "characters", "share"], rows)


def models(runs: Sequence[Run]) -> Table:
    """A row a run: what it is."""
    rows = [
        [run.name, architecture(run.shape), run.vocabulary, training(run.recipe, run.step), objective(run.recipe)]
        for run in runs
    ]
    return Table(["run", "architecture", "vocabulary", "training", "objective"], rows)


def differing(runs: Sequence[Run]) -> Table:
    """The keys of the recipes that are not the same in all runs."""
    recipes = [flat(run.recipe.to_dict()) for run in runs]
    keys = list(dict.fromkeys(key for recipe in recipes for key in recipe))
    rows = [[key, *(_plain(recipe.get(key, "")) for recipe in recipes)] for key in keys]
    return Table(["key", *(run.name for run in runs)], [row for row in rows if len(set(row[1:])) > 1])


def identities(runs: Sequence[Run], weights: Mapping[str, str | None]) -> Table:
    """Commits, fingerprints and versions, a column a run.

    Args:
        weights: fingerprints of them by which figures were matched, by run; perhaps none.
    """
    rows = _by_name("", runs, lambda run: {"commit": short(run.commit)} if run.commit else {})
    rows += _by_name("fingerprint of ", runs, lambda run: {"weights": _short(weights.get(run.name) or "")})
    rows += _by_name("", runs, _read)
    rows += _by_name("", runs, lambda run: run.versions)
    rows = [row for row in rows if any(row[1:])]
    return Table(["", *(run.name for run in runs)], rows)


def _read(run: Run) -> dict[str, str]:
    """What a run was read from; of answers the kind and precision are known, and no fingerprint."""
    return {f"fingerprint of {k}" if len(v) == DIGITS else k: _short(v) for k, v in run.fingerprints.items()}


def _by_name(prefix: str, runs: Sequence[Run], of: Callable[[Run], Mapping[str, Any]]) -> list[list[str]]:
    names = dict.fromkeys(name for run in runs for name in of(run))
    return [[f"{prefix}{name}", *(_plain(of(run).get(name, "")) for run in runs)] for name in names]


def _share(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" + (f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else "")


def _part(share: float) -> str:
    """Of a whole."""
    return "< 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def _quartiles(found: Quartiles | None) -> str:
    if found is None:
        return ""
    low, median, high = found
    return f"{_three(median)} ({_three(low)}–{_three(high)})"


def _three(value: float) -> str:
    """At least three digits that count."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _score(score: Score | None) -> str:
    """Mean and half the width of its interval, in per cent."""
    if score is None:
        return ""
    margin = f" ± {50 * (score.interval[1] - score.interval[0]):.1f}" if score.interval else ""
    return f"{100 * score.mean:.1f}{margin}"


def _kept(share: Score | None) -> str:
    """A share of another score, which "in per cent" does not say."""
    return f"{_score(share)}%" if share else ""


def _short(value: str) -> str:
    """A hash, as far as anybody reads it."""
    return value[:SHORT] if len(value) == DIGITS else value


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
