"""Masks beside a naive walk through each sample, and the statistics that they must have."""

import dataclasses
from collections import Counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.samples.columns import Samples
from data_tools.samples.masks import MaskConfig, mask
from data_tools.samples.pairs import NO_PAIR, PairConfig, pair
from data_tools.shards.keyed_rng import draws, key_of
from data_tools.text.tokenizer import CLS, MASK, SEP
from tests.data_tools.samples.made_up import VOCAB, VOCABULARY, documents_of, each, made_up_documents

STRATEGIES: list[Literal["token", "word", "ngram", "span"]] = ["token", "word", "ngram", "span"]
COUNTS = np.random.default_rng(0).integers(0, 10**6, VOCAB)


def samples_of(documents, seq_length: int = 64) -> Samples:
    ids, lengths, sentences, words, keys, sources = documents
    ids = (5 + ids % (VOCAB - 5)).astype(np.int32)
    return pair(ids, lengths, sentences, words, keys, sources, PairConfig(seq_length), VOCABULARY, seed=5)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return samples_of(made_up_documents(7, 2000))


def plain(count: int, length: int) -> Samples:
    """Samples without a pair, of single-token words with ids from 10 on."""
    return Samples(
        np.tile(np.r_[CLS, np.arange(10, 10 + length), SEP], count).astype(np.int32),
        np.ones(count * (length + 2), bool), np.full(count, length + 2), np.full(count, length),
        np.full(count, NO_PAIR, np.int8),
        np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64), np.zeros(count, np.uint32),
        np.zeros(count, np.uint16),
    )  # fmt: skip


def units_of(samples: Samples, strategy: str):
    """Of each sample, of each segment, the places of the units' tokens."""
    end = 0
    for ids, a, b, _ in each(samples):
        begin, end = end, end + len(ids)
        segments = []
        for places in (range(1, 1 + len(a)), range(2 + len(a), 2 + len(a) + len(b))):
            units: list[list[int]] = []
            for place in places:
                if strategy == "token" or samples.words[begin + place]:
                    units.append([])
                units[-1].append(place)
            segments.append(units)
        yield ids, segments


def budget_of(segments, rate: float) -> int:
    tokens = sum(len(unit) for units in segments for unit in units)
    return max(1, int(rate * tokens + 0.5)) if tokens else 0


def walked(samples: Samples, config: MaskConfig, seed: int, copy: int, counts):
    """The specification of which tokens are masked, one sample and one unit at a time: each sample's places."""
    shares = {
        "token": [1.0],
        "word": [1.0],
        "ngram": [1 / n for n in range(1, config.max_ngram + 1)],
        "span": [(1 - config.span_stop) ** n for n in range(config.max_span)],
    }[config.strategy]
    key = key_of(seed, "masks")
    for number, (ids, segments) in enumerate(units_of(samples, config.strategy)):

        def drawn(purpose, count, sample=number):
            counters = np.arange(-(-count // 4), dtype=np.uint32)
            document, which = samples.documents[[sample]], samples.numbers[[sample]]
            return np.stack(draws(key, document, which, copy, counters, purpose), 1).ravel().tolist()

        draw = drawn(0, len(ids))
        starts = [(units, i) for units in segments for i in range(len(units))]
        times: list[float] = draw
        if config.frequency_smoothing:
            weight = [float(max(1, counts[token])) ** -config.frequency_smoothing for token in ids]
            times = [float("inf")] * len(ids)
            for unit in (unit for units in segments for unit in units):
                mean = sum(weight[place] for place in unit) / len(unit)
                times[unit[0]] = float(np.float32(-np.log((draw[unit[0]] + 0.5) / 2**32) / mean))
        starts = [start for _, _, start in sorted((times[u[i][0]], u[i][0], (u, i)) for u, i in starts)]
        lengths = [1 + sum(value >= round(sum(shares[: i + 1]) / sum(shares) * 2**32) for i in range(len(shares) - 1))
                   for value in drawn(1, len(starts))]  # fmt: skip
        left, chosen = budget_of(segments, config.rate), set()
        for (units, i), length in zip(starts, lengths, strict=False):
            for unit in units[i : i + length]:
                if unit[0] in chosen or len(unit) > left:
                    break
                chosen |= {*unit}
                left -= len(unit)
        yield sorted(chosen)


def places(masks):
    return [part.tolist() for part in np.split(masks.positions, np.cumsum(masks.counts)[:-1])]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("changes", [{}, {"rate": 0.6}, {"frequency_smoothing": 0.7}], ids=str)
def test_masks_equal_a_walk_through_each_sample(samples, strategy, changes):
    some = samples.take(np.arange(0, len(samples), 25))
    config = MaskConfig(strategy, **changes)
    assert places(mask(some, config, VOCABULARY, 2, 1, COUNTS)) == list(walked(some, config, 2, 1, COUNTS))


def test_long_samples_equal_a_walk_too():
    some = samples_of(documents_of([3000, 700, 3, 129], 3), 1025)
    for strategy in STRATEGIES:
        config = MaskConfig(strategy, frequency_smoothing=0.3)
        assert places(mask(some, config, VOCABULARY, 2, 1, COUNTS)) == list(walked(some, config, 2, 1, COUNTS))


@given(
    st.sampled_from(STRATEGIES),
    st.floats(0.01, 0.99),
    st.lists(st.integers(1, 200), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    st.sampled_from([0.0, 0.7]),
    st.integers(0, 5),
)
@settings(max_examples=300, deadline=None)
def test_budgets_are_exact(strategy, rate, lengths, word, smoothing, seed):
    """Tokens meet the budget; whole words never exceed it, and none that is left out would fit."""
    some = samples_of(documents_of(lengths, seed, word=word), 40)
    config = MaskConfig(strategy, rate, frequency_smoothing=smoothing)
    masks = mask(some, config, VOCABULARY, seed, 0, COUNTS)
    for chosen, (_, segments) in zip(places(masks), units_of(some, strategy), strict=True):
        units = [unit for units in segments for unit in units]
        left = budget_of(segments, rate) - len(chosen)
        masked = [unit for unit in units if unit[0] in chosen]
        assert sorted(place for unit in masked for place in unit) == chosen  # whole units and nothing else
        assert left == 0 or (strategy != "token" and left > 0)
        assert all(len(unit) > left for unit in units if unit not in masked)


def test_words_meet_nearly_all_of_the_budget(samples):
    tokens = samples.lengths - 2 - (samples.order != NO_PAIR)
    budget = np.maximum(1, np.floor(0.15 * tokens + 0.5))
    for strategy in ("word", "ngram", "span"):
        assert mask(samples, MaskConfig(strategy), VOCABULARY, 0, 0).counts.sum() > 0.98 * budget.sum()


@pytest.mark.parametrize("split", [(0.8, 0.1), (1.0, 0.0), (0.0, 0.0), (0.5, 0.5)])
def test_masked_tokens_show_what_they_should(samples, split):
    masks = mask(samples, MaskConfig(mask_share=split[0], random_share=split[1]), VOCABULARY, 0, 0)
    begins = np.cumsum(samples.lengths) - samples.lengths
    labels = samples.ids[np.repeat(begins, masks.counts) + masks.positions]
    assert not np.isin(labels, [CLS, SEP]).any()
    n = len(labels)
    for share, shown in [
        (split[0], masks.inputs == MASK),
        (split[1] * (1 - 1 / VOCAB), (masks.inputs != MASK) & (masks.inputs != labels)),
    ]:
        assert abs(shown.mean() - share) <= 4 * np.sqrt(share * (1 - share) / n)
    random = masks.inputs[(masks.inputs != MASK) & (masks.inputs != labels)]
    if len(random):
        assert random.min() >= 5 and random.max() < VOCAB
        quarters = np.bincount((random - 5) * 4 // (VOCAB - 5), minlength=4)
        assert ((quarters - len(random) / 4) ** 2 / (len(random) / 4)).sum() < 21.1  # chi-square, p = 1e-4


def test_what_is_shown_does_not_depend_on_the_neighbours(samples):
    """Of two masked tokens in a row, each of the nine combinations is as frequent as the product of its parts."""
    masks = mask(samples, MaskConfig("span"), VOCABULARY, 0, 0)
    begins = np.cumsum(samples.lengths) - samples.lengths
    at = np.repeat(begins, masks.counts) + masks.positions
    kind = np.where(masks.inputs == MASK, 0, np.where(masks.inputs == samples.ids[at], 1, 2))
    for apart in (1, 2):
        both = np.flatnonzero(at[apart:] - at[:-apart] == apart)
        table = np.bincount(3 * kind[both] + kind[both + apart], minlength=9).reshape(3, 3)
        expected = table.sum(1)[:, None] * table.sum(0) / table.sum()
        assert ((table - expected) ** 2 / expected).sum() < 23.5  # chi-square of 4 degrees of freedom, p = 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_are_uniform_over_places(strategy):
    count, length = 40_000, 60
    masks = mask(plain(count, length), MaskConfig(strategy), VOCABULARY, 0, 0)
    per_place = np.bincount(masks.positions, minlength=length + 2)
    assert per_place[0] == per_place[-1] == 0
    # The first words of a segment are reached by fewer runs than those with a whole run's length before them.
    margin = {"ngram": 2, "span": 9}.get(strategy, 0)
    inner = per_place[1 + margin : -1]
    if strategy in ("ngram", "span"):
        assert 0.3 < per_place[1] / inner.mean() < 0.9
        inner = inner[: len(inner) - margin]
    else:
        assert inner.mean() == count * 9 / length
    rate = inner.mean() / count
    chi_square = ((inner - inner.mean()) ** 2).sum() / (count * rate * (1 - rate))
    freedom = len(inner) - 1
    # Places of one run are masked together, which widens the distribution of the sum, not its mean.
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom) * {"ngram": 2, "span": 4}.get(strategy, 1)


def runs_filling(shares, budget: int) -> Counter:
    """The probability of each multiset of run lengths that fill a budget, the last one cut short to fit."""
    if not budget:
        return Counter({(): 1.0})
    found: Counter = Counter()
    for n, share in enumerate(shares, 1):
        for rest, probability in runs_filling(shares, budget - min(n, budget)).items():
            found[tuple(sorted((min(n, budget), *rest)))] += share * probability
    return found


@pytest.mark.parametrize(
    ("strategy", "budget", "shares"),
    [
        ("ngram", 6, np.array([6, 3, 2]) / 11),
        ("span", 10, 0.8 ** np.arange(10) / (0.8 ** np.arange(10)).sum()),
    ],
)
def test_runs_have_the_lengths_that_they_should(strategy, budget, shares):
    """In long samples with few masked tokens runs hardly ever touch: they fill the budget as drawn lengths do."""
    count, length = 3000, 4000
    masks = mask(plain(count, length), MaskConfig(strategy, rate=budget / length), VOCABULARY, 0, 0)
    assert (masks.counts == budget).all()
    found: Counter = Counter()
    for row in masks.positions.reshape(count, budget):
        borders = np.flatnonzero(np.diff(row) != 1)
        found[tuple(sorted(np.diff(np.r_[-1, borders, budget - 1]).tolist()))] += 1
    expected = runs_filling(shares.tolist(), budget)
    assert abs(sum(expected.values()) - 1) < 1e-9
    often = [runs for runs, probability in expected.items() if count * probability > 20]
    chi_square = sum((found[runs] - count * expected[runs]) ** 2 / (count * expected[runs]) for runs in often)
    assert len(often) > 5 and chi_square < len(often) + 4 * np.sqrt(2 * len(often))


def test_smoothing_draws_by_the_power_of_the_counts():
    """With a budget of one token, a token's share is its weight's; with more, rarer ones are masked more often."""
    count, length = 60_000, 20
    counts = np.zeros(VOCAB, np.int64)
    counts[10 : 10 + length] = 2 ** np.arange(length)
    weights = counts[10 : 10 + length] ** -0.7
    for strategy in STRATEGIES:
        config = MaskConfig(strategy, rate=0.05, frequency_smoothing=0.7)
        found = np.bincount(
            mask(plain(count, length), config, VOCABULARY, 0, 0, counts).positions - 1, minlength=length
        )
        expected = count * weights / weights.sum()
        often = expected > 10
        chi_square = ((found - expected) ** 2 / expected)[often].sum()
        assert found.sum() == count and chi_square < often.sum() + 5 * np.sqrt(2 * often.sum())
    more = mask(plain(count, length), MaskConfig("token", frequency_smoothing=0.7), VOCABULARY, 0, 0, counts)
    rates = np.bincount(more.positions - 1, minlength=length) / count
    assert (np.diff(rates) < 0).all() and rates[0] > 0.8


def test_a_words_chance_is_its_average_tokens():
    """Three words of 1, 2 and 3 tokens: in a budget of three one is drawn first, by the mean of its weights."""
    counts = np.ones(VOCAB, np.int64)
    counts[10:16] = [64, 1, 8, 64, 64, 27]
    samples = plain(60_000, 6)
    samples.words.reshape(-1, 8)[:] = np.array([1, 1, 1, 0, 1, 0, 0, 1], bool)
    config = MaskConfig("word", rate=0.5, frequency_smoothing=1 / 3)
    chosen = places(mask(samples, config, VOCABULARY, 0, 0, counts))
    last = np.array([row == [4, 5, 6] for row in chosen])
    weights = np.array([1 / 4, (1 + 1 / 2) / 2, (1 / 4 + 1 / 4 + 1 / 3) / 3])
    share = weights[2] / weights.sum()
    assert abs(last.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(last))


def test_masks_do_not_depend_on_company_and_copies_differ(samples):
    for strategy in STRATEGIES:
        config = MaskConfig(strategy)
        together = mask(samples, config, VOCABULARY, 0, 0)
        index = np.array([5, 900, 3])
        alone = mask(samples.take(index), config, VOCABULARY, 0, 0)
        parts = list(together.blocks(100))
        for name in ("positions", "inputs", "counts"):
            assert np.array_equal(getattr(together.take(index), name), getattr(alone, name))
            assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(together, name))
        other = mask(samples, config, VOCABULARY, 0, 1)
        assert not np.array_equal(together.positions, other.positions)


def test_words_that_are_all_tokens_are_masked_as_tokens_are(samples):
    pieces = dataclasses.replace(samples, words=np.ones_like(samples.words))
    words, tokens = (mask(pieces, MaskConfig(strategy), VOCABULARY, 0, 0) for strategy in ("word", "token"))
    assert np.array_equal(words.positions, tokens.positions) and np.array_equal(words.inputs, tokens.inputs)


def test_the_config_reports_everything_at_once():
    with pytest.raises(ValueError, match=r"rate 2.*span_stop 1.*frequency_smoothing -1.*max_ngram 0.*copies 0"):
        MaskConfig(rate=2, copies=0, max_ngram=0, span_stop=1, frequency_smoothing=-1)
