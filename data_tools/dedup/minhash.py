"""Sketches of sets of n-grams: the share of places where two agree estimates the Jaccard similarity of the sets.

Plain MinHash applies as many hash functions to every n-gram as a sketch has places. "Fast Similarity Sketching"
(Dahlgaard, Knudsen, Thorup, FOCS 2017) applies one: it throws the n-grams into the places, keeps the smallest of each,
and repeats with a new function for the texts with a place left empty, which are the short ones. The estimate is
unbiased and its variance no greater than plain MinHash's.
"""

from __future__ import annotations

import numpy as np

from data_tools.dedup.ngrams import Units, mixed
from data_tools.shards.keyed_rng import U64

_EMPTY = np.uint64(2**64 - 1)
_ROUND = np.uint64(52)  # a minimum is the round in which its place was filled, above 52 bits of hash
_HASH = np.uint64(2**52 - 1)
_HIGH, _LOW = np.uint64(40), np.uint64(24)
_ENTRIES = 1 << 20  # of the sketches that are held at a time
_GOLDEN = 0x9E3779B97F4A7C15


def band_keys(texts: Units, ngram: int, bands: int, rows: int) -> U64:
    """One number for each band of each text's sketch; texts that agree in a band have the same there.

    The numbers of different bands are different. A text without an n-gram has none that another has.

    Returns:
        uint64 [texts, bands].
    """
    lengths = texts.lengths()
    step = max(1, _ENTRIES // (bands * rows))
    keys = [np.zeros((0, bands), np.uint64)]
    begin = 0
    for low in range(0, len(lengths), step):
        end = int(texts.ends[min(low + step, len(lengths)) - 1])
        some = Units(texts.values[begin:end], texts.ends[low : low + step] - begin)
        keys.append(_folded(sketch(some, ngram, bands * rows), bands))
        begin = end
    return np.concatenate(keys)


def sketch(texts: Units, ngram: int, size: int) -> U64:
    """A sketch of each text's set of n-grams, uint64 [texts, size]; all ones for a text that has none."""
    sketches = np.full((len(texts.ends), size), _EMPTY)
    unfilled = texts.lengths() >= ngram
    for number in range(2 * size):
        if not unfilled.any():
            break
        rows = np.flatnonzero(unfilled)
        flat = np.full(len(rows) * size, _EMPTY)
        for hashes, owners in texts.take(unfilled).ngrams(ngram):
            # One function a round: a bijection of the number, keyed by the round.
            values = mixed(hashes ^ np.uint64(number * _GOLDEN % 2**64)) if number else hashes
            places = (((values >> _HIGH) * np.uint64(size)) >> _LOW).astype(np.int64)
            if number >= size:  # chance left a place empty that often: now everything is thrown into one, in turn
                places[:] = number - size
            np.minimum.at(flat, owners * size + places, (values & _HASH) | np.uint64(number) << _ROUND)
        sketches[rows] = np.minimum(sketches[rows], flat.reshape(-1, size))
        unfilled[rows] = (sketches[rows] == _EMPTY).any(axis=1)
    return sketches


def _folded(sketches: U64, bands: int) -> U64:
    minima = sketches.reshape(len(sketches), bands, sketches.shape[1] // bands)
    keys = np.broadcast_to(mixed(np.arange(1, bands + 1, dtype=np.uint64)), minima.shape[:2])
    for row in range(minima.shape[2]):
        keys = mixed(keys ^ minima[:, :, row])
    return keys
