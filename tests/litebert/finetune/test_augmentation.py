"""Changed copies of texts: what is drawn equals a loop over texts and words, at the rates that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import rjieba

from data_tools.shards.keyed_rng import below, draws, key_of
from litebert.finetune.augmentation import LONGEST, MASK, Words, augmented
from litebert.finetune.examples import Labelled, Tagged

TEXTS = ["我们喜欢研究自然语言处理。", "", "北京 hello world，上海！", "他", "医生帮助农民解决问题，记者报道经济" * 3]


def naive(text: str, row: int, copy: int, key: int, mask: float, ngram: float) -> str:
    """One text, a word at a time."""
    document, shown = np.array([row], np.uint64), []
    words = rjieba.cut(text)
    for at, word in enumerate(words):
        masks = MASK if word.isascii() else MASK * len(word)
        drawn = int(draws(key, document, at, copy)[0][0])
        shown.append(masks if drawn / 2**32 < mask and not word.isspace() else word)
    chance, length, place, _ = draws(key, document, 2**32 - 1, copy)
    if chance[0] / 2**32 < ngram:
        count = min(len(words), 1 + int(below(length, LONGEST)[0]))
        first = int(below(place, len(words) - count + 1)[0])
        shown = shown[first : first + count]
    return "".join(shown)


@pytest.mark.parametrize(("mask", "ngram"), [(0.0, 0.0), (0.3, 0.0), (0.0, 1.0), (0.4, 0.5), (1.0, 1.0)])
def test_copies_are_those_of_a_loop(mask, ngram):
    words, key = Words.of(TEXTS), key_of("a test")
    for copy in range(5):
        made = words.copy(copy, key, mask, ngram)
        assert made == [naive(text, row, copy, key, mask, ngram) for row, text in enumerate(TEXTS)]
    if not mask and not ngram:
        assert made == TEXTS
    elif mask < 1:
        assert words.copy(0, key, mask, ngram) != words.copy(1, key, mask, ngram)
        assert words.copy(0, key, mask, ngram) != words.copy(0, key + 1, mask, ngram)


def test_a_text_does_not_depend_on_those_after_it():
    key = key_of("a test")
    assert Words.of(TEXTS[:3]).copy(2, key, 0.3, 0.5) == Words.of(TEXTS).copy(2, key, 0.3, 0.5)[:3]


def test_rates_are_those_that_were_asked_for():
    texts = ["我们喜欢研究经济问题"] * 4000
    words = Words.of(texts)
    cut = rjieba.cut(texts[0])
    assert len(cut) == 5 and all(len(word) == 2 for word in cut)
    made = words.copy(0, 1, 0.2, 0.0)
    masked = sum(text.count(MASK) for text in made) / 2 / (5 * len(texts))
    assert masked == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / (5 * len(texts))) ** 0.5)
    lengths = np.array([len(text) // 2 for text in words.copy(0, 1, 0.0, 0.4)])
    share = (lengths < 5).mean()  # a fifth of all that are cut have five words, and are whole
    assert share == pytest.approx(0.4 * 0.8, abs=5 * (0.32 * 0.68 / len(texts)) ** 0.5)
    assert np.bincount(lengths, minlength=6)[1:5] / len(texts) == pytest.approx(np.full(4, 0.08), abs=0.022)


def test_pairs_change_one_text_after_the_other_and_labels_are_left_out():
    pairs = [Labelled("我们喜欢研究经济", "学生讨论文化", "1"), Labelled("老师帮助孩子", "市场发展", "0")]
    first, second, both = (augmented(pairs, 3, 1.0, 0.0, "task")[begin : begin + 2] for begin in (0, 2, 4))
    for made, changed in ((first, {"text"}), (second, {"other"}), (both, {"text", "other"})):
        for one, pair in zip(made, pairs, strict=True):
            assert {name for name in ("text", "other") if getattr(one, name) != getattr(pair, name)} == changed
            assert one.label is None and set((one.text + one.other).replace(MASK, "")) < set(f"{pair.text}{pair.other}")
    assert augmented(pairs, 3, 0.5, 0.5, "task") == augmented(pairs, 3, 0.5, 0.5, "task")
    assert augmented(pairs, 3, 0.5, 0.5, "task") != augmented(pairs, 3, 0.5, 0.5, "another task")


def test_texts_with_tags_are_masked_and_not_cut():
    examples = [Tagged(text, ((0, 1, "place"),)) for text in TEXTS if text]
    assert augmented(examples, 1, 0.0, 1.0, "task") == [one.bare for one in examples]
    (masked,) = augmented([Tagged("记者在北京hello", ())], 1, 1.0, 1.0, "task")
    assert masked == Tagged(MASK * 6, None)
