"""Philox against its authors' published vectors; draws against what a uniform draw must be."""

import numpy as np
import pytest

from data_tools.shards import keyed_rng


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123, philox4x32 with 10 rounds
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_vectors(counter, key, expected):
    assert tuple(int(word) for word in keyed_rng.philox(counter, key)) == expected


def test_draws_do_not_depend_on_their_company():
    documents = np.random.default_rng(0).integers(0, 2**63, 100, dtype=np.uint64)
    together = np.stack(keyed_rng.draws(7, documents, np.arange(100)))
    alone = [np.stack(keyed_rng.draws(7, documents[i : i + 1], np.array([i]))) for i in range(100)]
    assert np.array_equal(together, np.concatenate(alone, axis=1))


def test_draws_are_uniform_and_differ_by_purpose():
    documents = np.zeros(1, np.uint64)
    one = keyed_rng.draws(keyed_rng.key_of(1, "order"), documents, np.arange(200_000))[0]
    two = keyed_rng.draws(keyed_rng.key_of(1, "masks"), documents, np.arange(200_000))[0]
    counts = np.bincount(keyed_rng.below(one, 100), minlength=100)
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert 50 < chi_square < 170  # 99 degrees of freedom: six sigma on either side
    assert abs(np.corrcoef(one.astype(float), two.astype(float))[0, 1]) < 0.015


def test_permutation_is_one_and_every_place_is_reached_evenly():
    places = np.stack([keyed_rng.permutation(seed, 20) for seed in range(4000)])
    assert np.array_equal(np.sort(places, axis=1), np.broadcast_to(np.arange(20), places.shape))
    counts = np.stack([np.bincount(places[:, i], minlength=20) for i in range(20)])
    assert np.abs(counts - 200).max() < 6 * np.sqrt(200)


@pytest.mark.parametrize("bits", [64, 60, 50, 8, 0])
@pytest.mark.parametrize("size", [1, 2, 1000, 40_000])
def test_permutation_is_the_stable_argsort_of_its_draws_however_many_are_equal(monkeypatch, bits, size):
    drawn = np.random.default_rng(bits).integers(0, 2**bits, size, np.uint64)
    words = ((drawn >> np.uint64(32)).astype(np.uint32), drawn.astype(np.uint32))
    monkeypatch.setattr(keyed_rng, "draws", lambda *arguments: (*words, None, None))
    assert keyed_rng.permutation(1, size).tolist() == np.argsort(drawn, kind="stable").tolist()
