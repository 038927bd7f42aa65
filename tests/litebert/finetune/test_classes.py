"""Figures of each class, beside naive counts."""

import random
from collections import Counter

import pytest

from litebert.finetune.classes import CONFUSED, Pair, by_class, confused


def test_figures_of_each_class_equal_naive_counts():
    rng = random.Random(0)
    pairs = [(rng.choice(["x", "y", "z", None]), rng.choice(["x", "y", "z", None])) for _ in range(500)]
    found = by_class(Counter(pairs), ("x", "y", "z", "never"))
    for label in "xyz":
        hits = sum(right == said == label for right, said in pairs)
        precision = hits / sum(said == label for _, said in pairs)
        recall = hits / sum(right == label for right, _ in pairs)
        assert found[label] == pytest.approx(
            {
                "precision": precision,
                "recall": recall,
                "f1": 2 * precision * recall / (precision + recall),
                "count": sum(right == label for right, _ in pairs),
            }
        )
    assert found["never"] == {"precision": 0, "recall": 0, "f1": 0, "count": 0}


def test_the_classes_that_are_mistaken_most_often_come_first():
    pairs = Counter({("x", "x"): 90, ("x", "y"): 3, ("y", "x"): 4, (None, "x"): 9, ("y", None): 9})
    assert confused(pairs) == [["y", "x", 4], ["x", "y", 3]]
    many: Counter[Pair] = Counter({(str(number), "x"): number for number in range(1, 30)})
    assert [count for *_, count in confused(many)] == [29, 28, 27, 26, 25][:CONFUSED]
