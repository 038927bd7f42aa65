"""Sketches: the naive algorithm's, with the accuracy that its paper promises."""

import numpy as np
import pytest

from data_tools.dedup import minhash
from data_tools.dedup.minhash import band_keys, sketch
from data_tools.dedup.ngrams import units
from tests.data_tools.dedup import corpora
from tests.data_tools.dedup.corpora import grams, jaccard, random_text


def test_sketches_are_the_naive_ones():
    rng = np.random.default_rng(1)
    lengths = [5, 6, 7, 10, 30, 100, 400, 3000]
    texts = [random_text(rng, length) for length in lengths] + ["一" * 50, "太短"]
    of_texts = units(texts)
    found = sketch(of_texts, 5, 24)
    for number, row in enumerate(found):
        hashes = {hashed for part, owners in of_texts.ngrams(5) for hashed in part[owners == number].tolist()}
        if hashes:
            assert [(value >> 52, value & 2**52 - 1) for value in row.tolist()] == corpora.sketch(hashes, 24)
        else:
            assert (row == 2**64 - 1).all()
    assert (found[:-1] >> np.uint64(52)).max() >= 24  # one n-gram fills no 24 places by chance


@pytest.mark.parametrize("length", [12, 40, 150, 1500])
def test_agreement_estimates_the_similarity(length):
    """Unbiased, and no more uncertain than one hash function a place: variance s (1 - s) / places."""
    rng = np.random.default_rng(length)
    pairs = []
    for _ in range(300):
        text = "".join(map(chr, rng.integers(0x4E00, 0x9FA5, length)))
        pairs += [text, text[: length // 2 + int(rng.integers(0, length // 2))] + text[:3]]
    found = sketch(units(pairs), 5, 120)
    agreement = (found[::2] == found[1::2]).mean(axis=1)
    true = np.array([jaccard(grams(a, 5), grams(b, 5)) for a, b in zip(pairs[::2], pairs[1::2], strict=True)])
    deviation = np.sqrt(true * (1 - true) / 120)
    assert abs((agreement - true).mean()) < 4 * np.sqrt((deviation**2).mean() / len(true))
    assert ((agreement - true) ** 2).mean() < 1.3 * (deviation**2).mean()


def test_documents_meet_as_often_as_the_formula_says():
    rng = np.random.default_rng(3)
    bands, rows, met, expected = 10, 4, 0, 0.0
    texts = []
    for _ in range(400):
        text = "".join(map(chr, rng.integers(0x4E00, 0x9FA5, 200)))
        texts += [text, corpora.edited(text, rng, 0.08)]
    keys = band_keys(units(texts), 5, bands, rows)
    for a, b, left, right in zip(texts[::2], texts[1::2], keys[::2], keys[1::2], strict=True):
        met += bool((left == right).any())
        expected += 1 - (1 - jaccard(grams(a, 5), grams(b, 5)) ** rows) ** bands
    assert 100 < expected < 390
    assert abs(met - expected) < 4 * np.sqrt(400 * 0.25)
    assert len(np.unique(keys[::2])) == 400 * bands  # no band of a text is another's


def test_keys_do_not_depend_on_how_many_are_sketched_at_a_time(monkeypatch):
    rng = np.random.default_rng(2)
    of_texts = units([random_text(rng, int(length)) for length in rng.integers(8, 500, 60)])
    whole = band_keys(of_texts, 3, 4, 3)
    monkeypatch.setattr(minhash, "_ENTRIES", 12 * 7)
    assert np.array_equal(band_keys(of_texts, 3, 4, 3), whole)
