"""N-grams: two have one number exactly where their units are the same."""

import numpy as np
import pytest

from data_tools.dedup import ngrams
from data_tools.dedup.ngrams import units
from tests.data_tools.dedup.corpora import random_text, words_and_characters


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 16])
def test_numbers_are_those_of_naive_ngrams(size, monkeypatch):
    monkeypatch.setattr(ngrams, "_SLICE", 5000)  # several slices
    rng = np.random.default_rng(size)
    texts = [random_text(rng, int(length)) for length in rng.integers(1, 300, 100)]
    texts += [texts[0], "", "，。", texts[1][1:]]
    expected = []
    for number, text in enumerate(texts):
        found = words_and_characters(text)
        expected += [(tuple(found[n : n + size]), number) for n in range(len(found) - size + 1)]
    slices = list(units(texts).ngrams(size))
    hashes = np.concatenate([hashes for hashes, _ in slices]).tolist()
    assert np.concatenate([owners for _, owners in slices]).tolist() == [number for _, number in expected]
    assert len(expected) > 5000
    number_of = {gram: hashed for (gram, _), hashed in zip(expected, hashes, strict=True)}
    assert [number_of[gram] for gram, _ in expected] == hashes
    assert len(set(number_of.values())) == len(number_of)


def test_units_of_a_text_do_not_depend_on_its_company(monkeypatch):
    monkeypatch.setattr(ngrams, "_SLICE", 1000)
    rng = np.random.default_rng(0)
    texts = [random_text(rng, int(length)) for length in rng.integers(1, 4000, 20)] + ["word" * 600, "end", "start"]
    together = units(texts)
    alone = [units([text]).values for text in texts]
    assert np.array_equal(together.values, np.concatenate(alone))
    assert together.lengths().tolist() == [len(values) for values in alone]


def test_marks_spaces_and_line_ends_do_not_count():
    left, right = units(["“你好”，ALBERT 模型！"]), units(["你好 albert\n模型。".replace("albert", "ALBERT")])
    assert np.array_equal(left.values, right.values)
    assert len(left.values) == 5


def test_numbers_are_uniform():
    rng = np.random.default_rng(0)
    text = "".join(map(chr, rng.integers(0x4E00, 0x4E00 + 300, 200_000)))
    hashes = np.concatenate([hashes for hashes, _ in units([text]).ngrams(5)])
    for shift in (0, 30, 56):
        counts = np.bincount(((hashes >> np.uint64(shift)) & np.uint64(255)).astype(np.int64), minlength=256)
        expected = len(hashes) / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)
