"""What outputs come to, beside naive counts, and CMRC's measure on cases worked out by the rules of its script."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from litebert.finetune.classification import Classification
from litebert.finetune.examples import Labelled, Question, Tagged
from litebert.finetune.family import Encoded
from litebert.finetune.span import LONGEST, best_spans, exact_match, likeliest, overlap, segments
from litebert.finetune.summary import Summary, above
from litebert.finetune.tagging import Tagging, agreement

TAGGING = Tagging(("a", "b"))
TAGS = st.lists(st.integers(0, 4), max_size=12)


def test_accuracy_and_macro_f1_equal_naive_counts():
    rng = random.Random(0)
    labels = ("x", "y", "z", "never")
    family = Classification(labels)
    right = [rng.choice("xxyz") for _ in range(200)]
    logits = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    logits[:, 3] = -9
    said = [labels[max(range(4), key=lambda k: row[k])] for row in logits]
    scores = family.scores([Labelled("", None, one) for one in right], Encoded([], np.arange(200), ()), (logits,))
    assert scores["accuracy"] == sum(one == other for one, other in zip(right, said, strict=True)) / 200
    assert scores["majority"] == max(right.count(label) for label in labels) / 200
    f1 = []
    for label in "xyz":
        hits = sum(one == other == label for one, other in zip(right, said, strict=True))
        precision, recall = hits / said.count(label), hits / right.count(label)
        f1.append(2 * precision * recall / (precision + recall))
    assert scores["macro_f1"] == pytest.approx(sum(f1) / 3)


def naive_entities(tags):
    """Each maximal run of one type, broken before every B-."""
    names = ["O", "B-a", "I-a", "B-b", "I-b"]
    found = []
    for start, tag in enumerate(tags):
        name = names[tag]
        before = names[tags[start - 1]] if start else "O"
        if name == "O" or (name[0] == "I" and before[2:] == name[2:]):
            continue
        end = start + 1
        while end < len(tags) and names[tags[end]] == f"I-{name[2:]}":
            end += 1
        found.append((3 * start, 3 * end - 1, name[2:]))
    return found


@settings(max_examples=300)
@given(TAGS)
def test_entities_of_tags_equal_the_naive_ones(tags):
    offsets = np.array([(3 * place, 3 * place + 2) for place in range(len(tags))]).reshape(-1, 2)
    assert list(TAGGING.entities(np.array(tags, int), offsets)) == naive_entities(tags)


@given(st.lists(st.tuples(TAGS, TAGS), max_size=5))
def test_agreement_counts_whole_entities(pairs):
    right = [set(naive_entities(one)) for one, _ in pairs]
    said = [set(naive_entities(other)) for _, other in pairs]
    f1, precision, recall = agreement(right, said)
    hits = sum(entity in other for one, other in zip(right, said, strict=True) for entity in one)
    wanted, found = sum(len(one) for one in right), sum(len(one) for one in said)
    assert recall == (hits / wanted if wanted else 0) and precision == (hits / found if found else 0)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0)


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=5))
def test_pairs_of_types_add_up_to_the_entities(pairs):
    lengths = [max(len(one), len(other)) for one, other in pairs]
    right, said = ([[*tags, *[0] * (length - len(tags))] for tags, length in zip(each, lengths, strict=True)]
                   for each in zip(*pairs, strict=True))  # fmt: skip
    offsets = [np.array([(3 * place, 3 * place + 2) for place in range(length)]).reshape(-1, 2) for length in lengths]
    outputs = np.full((len(pairs), max(1, *lengths, 1), 5), -1, np.float32)
    for row, tags in enumerate(said):
        outputs[row, range(len(tags)), tags] = 1
    examples = [Tagged("字" * 40, tuple(naive_entities(tags))) for tags in right]
    found = Counter(TAGGING.pairs(examples, Encoded([], np.arange(len(pairs)), offsets), (outputs,)))
    naive: Counter = Counter()
    for one, other in zip(right, said, strict=True):
        told, told_of = ({entity[:2]: entity[2] for entity in naive_entities(tags)} for tags in (one, other))
        naive.update((told.get(place), told_of.get(place)) for place in told.keys() | told_of.keys())
    assert found == naive


def test_best_spans_equal_a_search_of_all():
    rng = np.random.default_rng(1)
    start, end = rng.normal(size=(2, 40, 150)).astype(np.float32)
    passage = np.zeros((40, 150), bool)
    for row in range(39):  # the last has none
        first = int(rng.integers(0, 20))
        passage[row, first : first + int(rng.integers(1, 130))] = True
    scores, firsts, lasts = best_spans(start, end, passage)
    for row in range(39):
        places = np.flatnonzero(passage[row])
        best = max((start[row, i] + end[row, j], i, j) for i in places for j in places if i <= j < i + LONGEST)
        assert (scores[row], firsts[row], lasts[row]) == best
    assert (scores[39], firsts[39], lasts[39]) == (-np.inf, 0, 0)


def test_the_likeliest_window_answers():
    offsets = [np.array([(0, 0), (0, 1), (1, 2)]), np.array([(0, 0), (2, 3)])]
    encoded = Encoded([{}, {}], np.array([0, 0]), offsets)
    start = np.array([[9, 1, 0], [9, 2, -100]], np.float32)  # 9: on no text; -100: padding
    question = [Question("？", "甲乙丙", (("丙", 2),))]
    assert likeliest(question, encoded, start, start) == ["丙"]
    assert likeliest(question, encoded, start - np.array([[0], [2]], np.float32), start) == ["甲"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("光荣和ω-force", ["光", "荣", "和", "ωforce"]),
        ("《三国志》3.14%", ["三", "国", "志", "3.14", "%"]),
        ("Nexon Inc.公司", ["nexon", "inc", ".", "公", "司"]),
        ("2V2、4V4", ["2v24v4"]),
        ("", []),
        ("‘引’…", ["‘", "引", "…"]),  # the script leaves out ’ but not ‘, and compares no character with its "……"
    ],
)
def test_segments_are_those_of_the_script(text, parts):
    assert segments(text) == parts


@pytest.mark.parametrize(
    ("right", "said", "exact", "f1"),
    [
        (["光荣和ω-force"], "光荣和ω-Force。", True, 1.0),
        (["光荣"], "由光荣开发", False, 2 * 2 / (2 + 5)),
        (["光荣", "由光荣"], "由光荣开发", False, 2 * 3 / (3 + 5)),
        (["战国无双"], "国战双无", False, 2 * 1 / 8),  # the longest run, not what is in common
        (["1963年"], "1963", False, 2 * 1 / (2 + 1)),
        (["光荣"], "", False, 0.0),
        (["光荣"], "开发", False, 0.0),
    ],
)
def test_exact_match_and_overlap_are_those_of_the_script(right, said, exact, f1):
    assert exact_match(right, said) is exact
    assert overlap(right, said) == pytest.approx(f1)


@given(st.text("甲乙丙a 。", max_size=9), st.text("甲乙丙a 。", min_size=1, max_size=9))
def test_overlap_equals_the_scripts_table_of_common_runs(right, said):
    one, other = segments(right), segments(said)
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one):
        for j, its in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if left == its else 0
    common = max(map(max, table))
    precision, recall = (common / max(1, len(parts)) for parts in (other, one))
    assert overlap([right], said) == pytest.approx(2 * precision * recall / (precision + recall) if common else 0)


def test_intervals_are_those_of_the_tables():
    summary = Summary.of([0.8, 0.82, 0.87])
    deviation = math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2)
    margin = 4.30265 * deviation / math.sqrt(3)  # Student's t, 2 degrees of freedom, two-sided 5 %
    assert summary.mean == pytest.approx(0.83)
    assert summary.interval == pytest.approx((0.83 - margin, 0.83 + margin), abs=1e-6)
    assert Summary.of([0.8]).interval is None and Summary.of([0.5, 0.5]).interval == (0.5, 0.5)


def test_intervals_end_where_scores_do():
    assert Summary.of([0.0, 1.0]).interval == (0.0, 1.0)
    low, high = Summary.of([0.99, 0.999, 0.97]).interval or (0, 0)
    assert 0.9 < low < 0.99 and high == 1.0
    assert above(Summary.of([1.0, 0.2]), Summary.of([0.0, 0.5]))["interval"] == (-1.0, 1.0)


@pytest.mark.parametrize("floor", [(0.70, 0.71, 0.69), (0.79, 0.72, 0.73)])
def test_the_difference_to_the_floor_is_scipys_of_welch(floor):
    score = (0.80, 0.82, 0.87)
    expected = stats.ttest_ind(score, floor, equal_var=False).confidence_interval(0.95)
    found = above(Summary.of(score), Summary.of(floor))
    assert found["mean"] == pytest.approx(0.83 - sum(floor) / 3)
    assert found["interval"] == pytest.approx((expected.low, expected.high))


def test_the_difference_of_scores_that_do_not_vary_is_exact_and_of_one_seed_is_not_bounded():
    assert above(Summary.of([0.75, 0.75]), Summary.of([0.5, 0.5])) == {"mean": 0.25, "interval": (0.25, 0.25)}
    assert above(Summary.of([0.8]), Summary.of([0.7]))["interval"] is None
