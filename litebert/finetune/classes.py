"""How well each class is told from the others: precision, recall and F1 of each, and which are taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

CONFUSED = 5  # pairs of classes that are named

Pair = tuple[str | None, str | None]  # what is right and what was said, of an example or an entity; None for nothing


def by_class(pairs: Counter[Pair], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and count of each label; 0 where there is nothing to divide by.

    Args:
        pairs: how often each occurs.
    """
    wanted: Counter[str | None] = Counter()
    found: Counter[str | None] = Counter()
    for (right, said), count in pairs.items():
        wanted[right] += count
        found[said] += count
    return {
        label: {
            "precision": pairs[label, label] / max(1, found[label]),
            "recall": pairs[label, label] / max(1, wanted[label]),
            "f1": 2 * pairs[label, label] / max(1, wanted[label] + found[label]),
            "count": wanted[label],
        }
        for label in labels
    }


def confused(pairs: Counter[Pair]) -> list[list[str | int]]:
    """The pairs of different labels that occur most often: [right, said, count]."""
    wrong = [(count, *pair) for pair, count in pairs.items() if None not in pair and pair[0] != pair[1]]
    most = sorted(wrong, key=lambda one: (-one[0], str(one[1]), str(one[2])))[:CONFUSED]
    return [[str(right), str(said), count] for count, right, said in most]
