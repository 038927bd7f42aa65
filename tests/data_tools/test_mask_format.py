"""The README's account of randomness is enough: masks made from it alone, a token at a time, are the stored ones."""

import hashlib
import math

import numpy as np
import pytest

from data_tools.samples.masks import MaskConfig, mask
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader


def philox(counter, key):
    """Philox4x32-10 on Python's integers (Salmon et al. 2011, figure 3 and section 4)."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = right >> 32 ^ c1 ^ k0, right & 0xFFFFFFFF, left >> 32 ^ c3 ^ k1, left & 0xFFFFFFFF
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return c0, c1, c2, c3


class Draws:
    """The draws of one copy of one sample."""

    def __init__(self, seed, document, number, copy):
        text = f"{seed}\0masks".encode()
        combined = document ^ int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        self.key, self.of = (combined & 0xFFFFFFFF, combined >> 32), (number, copy)

    def word(self, place, use):
        return philox((*self.of, place // 4, use), self.key)[place % 4]


def masked(ids, begins, first, paired, draws, config, mask_id, replacements, counts):
    """Positions and inputs of a sample by the README: {position: input}."""
    specials = {0, first + 1, len(ids) - 1} if paired else {0, len(ids) - 1}
    units: dict[int, list[int]] = {}
    at: dict[int, int] = {}
    for position in range(len(ids)):
        if position not in specials:
            if config.strategy == "token" or begins[position]:
                unit = position
                units[unit] = []
            units[unit].append(position)
            at[position] = unit
    order = {}
    for unit, tokens in units.items():
        order[unit] = draws.word(unit, 0)
        if config.frequency_smoothing:
            weight = sum(max(int(counts[ids[p]]), 1) ** -config.frequency_smoothing for p in tokens) / len(tokens)
            order[unit] = np.float32(-math.log((order[unit] + 0.5) / 2**32) / weight)
    shares = {"ngram": [1 / n for n in range(1, config.max_ngram + 1)]}
    shares["span"] = [(1 - config.span_stop) ** n for n in range(config.max_span)]
    share = np.array(shares.get(config.strategy, [1.0]))
    thresholds = [round(p * 2**32) for p in np.cumsum(share / share.sum())[:-1].tolist()]
    left = max(1, math.floor(config.rate * (len(ids) - len(specials)) + 0.5)) if units else 0
    chosen = set()
    for visit, unit in enumerate(sorted(units, key=lambda unit: (order[unit], unit))):
        wanted = 1 + sum(threshold <= draws.word(visit, 1) for threshold in thresholds)
        while wanted and unit in units and unit not in chosen and len(units[unit]) <= left:
            chosen.update(units[unit])
            left -= len(units[unit])
            unit += len(units[unit])
            wanted -= 1
    found = {}
    for m, position in enumerate(sorted(chosen)):
        words = philox((*draws.of, m // 2, 2), draws.key)[2 * (m % 2) :]
        if words[0] < round(2**32 * config.mask_share):
            found[position] = mask_id
        elif words[0] < round(2**32 * (config.mask_share + config.random_share)):
            found[position] = int(replacements[words[1] * len(replacements) >> 32])
        else:
            found[position] = ids[position]
    return found


@pytest.mark.parametrize("changes", [
    {},
    {"strategy": "token", "rate": 0.3},
    {"strategy": "ngram"},
    {"strategy": "span", "rate": 0.4, "mask_share": 0.5, "random_share": 0.4},
    {"frequency_smoothing": 0.7},
    {"seed": 5},
])  # fmt: skip
def test_masks_are_those_that_the_readme_describes(shards, tokenizer, build_config, changes):
    config = MaskConfig(**changes)
    vocabulary = tokenizer.vocabulary
    counts = np.load(shards / "train.unigram.npy")
    shard = Manifest.load(shards).splits["train"].shards[0]
    samples = ShardReader(shards, shard).read(1, 0).samples
    found = mask(samples, config, vocabulary, build_config.seed, 3, counts)
    token = taken = 0
    for row, length in enumerate(samples.lengths.tolist()):
        ids, begins = samples.ids[token : token + length].tolist(), samples.words[token : token + length]
        seed = build_config.seed if config.seed is None else config.seed
        draws = Draws(seed, int(samples.documents[row]), int(samples.numbers[row]), 3)
        paired = bool(samples.order[row] >= 0)
        first, replacements = int(samples.first[row]), vocabulary.replacements
        naive = masked(ids, begins, first, paired, draws, config, vocabulary.mask, replacements, counts)
        part = slice(taken, taken + int(found.counts[row]))
        assert dict(zip(found.positions[part].tolist(), found.inputs[part].tolist(), strict=True)) == naive
        token, taken = token + length, part.stop
