"""Results on tasks as a user reads them: a table, and what of them is not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from litebert.finetune.trial import MEASURED
from litebert.markdown import markdown

ARMS = ("floor", "shuffled", "distilled")  # beside the model itself


def remarks(facts: Mapping[str, Any]) -> Iterator[str]:
    """A line of each arm of a task that learnt nothing, or whose best learning rate is the end of those tried.

    Args:
        facts: of one task, as JSON has it.
    """
    for arm in ("model", *ARMS):
        if arm in facts and arm != "shuffled":  # which is chance as it should be
            where = f"{facts['task']}, {arm}"
            yield from _lost(where, facts["metric"], facts[arm]["test"])
            yield from _edge(where, facts[arm])


def _lost(where: str, metric: str, test: Mapping[str, Any]) -> Iterator[str]:
    """A class that is always the same, or no entity. Any span says something, so nothing is said of those."""
    score = test[metric]["mean"]
    chance = test["majority"]["mean"] if "majority" in test else 0.0
    if score <= chance and "exact_match" not in test:
        yield (
            f"{where}: {metric} {score:.1%} on test is what is had for nothing: it learnt too little (more epochs, a "
            "higher learning rate), or lost all at too high a rate (a lower one, or a longer --train.warmup)"
        )


def _edge(where: str, outcome: Mapping[str, Any]) -> Iterator[str]:
    if outcome["edge"]:
        yield (
            f"{where}: the best learning rate on dev, {outcome['learning_rate']:g}, is the {outcome['edge']} tried: "
            "others may be better"
        )


def table(results: Mapping[str, Any]) -> str:
    """The results in Markdown, in per cent, a row a task; majority is the share of the commonest class of test."""
    heads = [
        "task",
        "score",
        "dev",
        "test",
        "majority",
        "floor",
        "above the floor",
        "shuffled",
        "distilled",
        "learning rate",
        "seconds",
    ]
    rows = [heads]
    for facts in results["tasks"]:
        metric, model = facts["metric"], facts["model"]
        other = {arm: _percent(facts[arm]["test"][metric]) if arm in facts else "" for arm in ARMS}
        difference = _percent(facts["above_floor"]) if "above_floor" in facts else ""
        seconds = sum(facts[arm]["seconds"] for arm in ("model", *ARMS) if arm in facts)
        both = [_percent(model[split][metric]) for split in MEASURED]
        chance = f"{100 * model['test']['majority']['mean']:.1f}" if "majority" in model["test"] else ""
        named = [facts["task"], metric, *both, chance, other["floor"], difference]
        rows.append([*named, other["shuffled"], other["distilled"], f"{model['learning_rate']:g}", f"{seconds:.0f}"])
    return markdown(rows)


def _percent(summary: Mapping[str, Any]) -> str:
    """Mean and half the width of its interval, or the interval where it ends before that at the largest score."""
    mean = f"{100 * summary['mean']:.1f}"
    if not summary["interval"]:
        return mean
    low, high = summary["interval"]
    if math.isclose(high - summary["mean"], summary["mean"] - low, abs_tol=1e-9):
        return f"{mean} ± {50 * (high - low):.1f}"
    return f"{mean} [{100 * low:.1f}, {100 * high:.1f}]"
