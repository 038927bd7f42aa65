"""Pairs and masks beside naive references, and the statistics that they must have."""

import numpy as np
import pytest

from data_tools.samples.columns import Samples, concatenate, ranges
from data_tools.samples.masks import MaskConfig, mask
from data_tools.samples.pairs import NO_PAIR, PairConfig, pair
from data_tools.shards.keyed_rng import draws, key_of
from data_tools.text.interface import Vocabulary
from data_tools.text.tokenizer import CLS, MASK, SEP

VOCAB = 5000
VOCABULARY = Vocabulary.specials_first(VOCAB)


def made_up_documents(seed: int, documents: int = 300):
    """Token ids with sentence and word starts of plausible lengths; each token of the corpus has its own id."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([1, 2, 3, 17, 60, 61, 62, 200, 900], documents)
    total = int(lengths.sum())
    sentences, words = rng.random(total) < 1 / 18, rng.random(total) < 0.6
    begins = np.cumsum(lengths) - lengths
    sentences[begins] = words[begins] = True
    words |= sentences
    keys = rng.integers(0, 2**63, documents, dtype=np.uint64)
    return np.arange(5, 5 + total, dtype=np.int32), lengths.astype(np.int64), sentences, words, keys


def each(samples: Samples):
    """The samples one by one: ids, A, B, whether swapped or unpaired."""
    end = 0
    for length, first, order in zip(samples.lengths, samples.first, samples.order, strict=True):
        ids = samples.ids[end : end + length].tolist()
        end += length
        yield ids, ids[1 : 1 + first], ids[2 + first : -1], int(order)


@pytest.mark.parametrize(("seq_length", "short_share"), [(64, 0.1), (20, 0.5), (64, 0.0), (8, 1.0)])
def test_no_token_is_lost_or_doubled_and_pairs_are_what_they_say(seq_length, short_share):
    ids, lengths, sentences, words, keys = made_up_documents(seq_length)
    samples = pair(ids, lengths, sentences, words, keys, PairConfig(seq_length, short_share), VOCABULARY, seed=3)
    document_of = np.repeat(np.arange(len(lengths)), lengths)
    seen = []
    for sample, a, b, order in each(samples):
        assert len(sample) <= seq_length and sample[0] == CLS and sample[-1] == SEP
        first, second = (b, a) if order == 1 else (a, b)
        stretch = first + second
        assert stretch == list(range(stretch[0], stretch[-1] + 1))  # consecutive in the corpus
        assert len(set(document_of[np.array(stretch) - 5])) == 1
        if order == NO_PAIR:
            assert not b and sample[1:-1] == a
            assert not sentences[np.array(a[1:], int) - 5].any()
        else:
            assert sample[1 + len(a)] == SEP and a and b
            assert sentences[second[0] - 5]
        seen.append(stretch)
    assert sorted(token for stretch in seen for token in stretch) == ids.tolist()


def test_pairs_equal_a_walk_through_each_document():
    ids, lengths, sentences, words, keys = made_up_documents(1)
    config, seed = PairConfig(64, 0.3), 3
    samples = pair(ids, lengths, sentences, words, keys, config, VOCABULARY, seed)
    found = sorted(
        (int(d), int(n), s) for d, n, s in zip(samples.documents, samples.numbers, each(samples), strict=True)
    )
    assert found == sorted(walked(ids, lengths, sentences, words, keys, config, seed))


def walked(ids, lengths, sentences, words, keys, config, seed):
    """The specification of ``pair``, one sample at a time."""
    room, end = config.seq_length - 3, 0
    for length, key in zip(lengths, keys, strict=True):
        position, end, number = end, end + int(length), 0
        while position < end:
            short, target, cut, swap = (int(d[0]) for d in draws(key_of(seed, "pairs"), np.array([key]), [number]))
            goal = room
            if short < round(config.short_share * 2**32):
                goal = 2 + (target * (room - 1) >> 32)
            stop = end
            if position + goal < end:
                inside = [t for t in range(position + 1, position + goal + 1) if sentences[t]]
                next_one = next((t for t in range(position + 1, end) if sentences[t]), end)
                whole = [t for t in range(position + 1, min(position + room, end - 1) + 1) if words[t]]
                if inside:
                    stop = inside[-1]
                elif next_one <= position + room:
                    stop = next_one
                else:
                    stop = whole[-1] if whole else position + room
            cuts = [t for t in range(position + 1, stop) if sentences[t]]
            if not cuts:
                a, b, order = ids[position:stop].tolist(), [], NO_PAIR
                sample = [CLS, *a, SEP]
            else:
                middle = cuts[cut * len(cuts) >> 32]
                a, b, order = ids[position:middle].tolist(), ids[middle:stop].tolist(), int(swap < 2**31)
                if order:
                    a, b = b, a
                sample = [CLS, *a, SEP, *b, SEP]
            yield int(key), number, (sample, a, b, order)
            position, number = stop, number + 1


def test_half_of_the_pairs_are_swapped_and_a_tenth_is_short():
    lengths = np.full(4000, 900)
    total = int(lengths.sum())
    sentences = np.zeros(total, bool)
    sentences[::10] = True
    keys = np.random.default_rng(0).integers(0, 2**63, 4000, dtype=np.uint64)
    samples = pair(
        np.arange(5, 5 + total, dtype=np.int32),
        lengths,
        sentences,
        np.ones(total, bool),
        keys,
        PairConfig(64, 0.1),
        VOCABULARY,
        0,
    )
    paired = samples.order != NO_PAIR
    swapped = (samples.order[paired] == 1).mean()
    assert abs(swapped - 0.5) < 4 * 0.5 / np.sqrt(paired.sum())
    lengths_of_first = samples.lengths[samples.numbers == 0]  # short ones are drawn alike for lengths 2 to 61
    assert abs((lengths_of_first < 63).mean() - 0.1 * 58 / 60) < 4 * np.sqrt(0.1 * 0.9 / 4000)
    cuts = samples.first[paired & (samples.lengths == 63) & (samples.order == 0)]
    counts = np.bincount(cuts // 10, minlength=6)[1:6]
    assert counts.sum() == len(cuts) and np.abs(counts - len(cuts) / 5).max() < 5 * np.sqrt(len(cuts) / 5)


@pytest.fixture(scope="module")
def samples() -> Samples:
    ids, lengths, sentences, words, keys = made_up_documents(7, 2000)
    return pair(5 + ids % (VOCAB - 5), lengths, sentences, words, keys, PairConfig(64), VOCABULARY, seed=5)


def greedy(samples: Samples, config: MaskConfig, seed: int, copy: int):
    """The specification of ``mask``, one sample and one unit at a time: the chosen places of each sample."""
    key, end = key_of(seed, "masks"), 0
    for sample, (ids, a, _, _) in enumerate(each(samples)):
        begin, end = end, end + len(ids)
        specials = {0, len(a) + 1, len(ids) - 1}
        units: list[list[int]] = []
        for place in range(len(ids)):
            if place in specials:
                continue
            if config.strategy == "token" or samples.words[begin + place]:
                units.append([])
            units[-1].append(place)
        tokens = sum(map(len, units))
        budget = max(1, int(config.rate * tokens + 0.5)) if tokens else 0
        document, number = samples.documents[[sample]], samples.numbers[[sample]]
        order = sorted(units, key=lambda unit: int(draws(key, document, number, copy, unit[0], 0)[0][0]))
        chosen: list[int] = []
        for unit in order:
            if len(chosen) + len(unit) <= budget:
                chosen += unit
        yield sorted(chosen or order[0]) if units else []


@pytest.mark.parametrize("strategy", ["word", "token"])
def test_masks_equal_a_greedy_walk(samples, strategy):
    some = samples.take(np.arange(0, len(samples), 7))
    config = MaskConfig(strategy=strategy)
    masks = mask(some, config, VOCABULARY, seed=2, copy=1)
    ends = np.cumsum(masks.counts)
    found = [masks.positions[end - count : end].tolist() for end, count in zip(ends, masks.counts, strict=True)]
    assert found == list(greedy(some, config, 2, 1))


def test_token_budgets_are_exact_and_word_budgets_kept(samples):
    tokens = samples.lengths - 2 - (samples.order != NO_PAIR)
    budget = np.maximum(1, np.floor(0.15 * tokens + 0.5))
    assert np.array_equal(mask(samples, MaskConfig("token"), VOCABULARY, 0, 0).counts, budget)
    counts = mask(samples, MaskConfig("word"), VOCABULARY, 0, 0).counts
    assert (counts[tokens > 20] <= budget[tokens > 20]).all()
    assert counts.sum() > 0.97 * budget.sum()


def test_masked_tokens_show_what_they_should(samples):
    masks = mask(samples, MaskConfig(), VOCABULARY, 0, 0)
    begins = np.cumsum(samples.lengths) - samples.lengths
    places = np.repeat(begins, masks.counts) + masks.positions
    labels = samples.ids[places]
    assert not np.isin(labels, [CLS, SEP]).any()
    n = len(labels)
    sigma = 4 / np.sqrt(n)
    assert abs((masks.inputs == MASK).mean() - 0.8) < 0.4 * sigma
    assert abs((masks.inputs == labels).mean() - 0.1) < 0.31 * sigma
    random = masks.inputs[(masks.inputs != MASK) & (masks.inputs != labels)]
    assert abs(len(random) / n - 0.1) < 0.31 * sigma
    assert random.min() >= 5 and random.max() < VOCAB
    quarters = np.bincount((random - 5) * 4 // (VOCAB - 5), minlength=4)
    assert np.abs(quarters - len(random) / 4).max() < 4 * np.sqrt(len(random) / 4)


def test_masks_are_uniform_over_places():
    count, length = 40_000, 50
    samples = Samples(
        np.tile(np.r_[CLS, np.arange(10, 10 + length), SEP], count).astype(np.int32),
        np.ones(count * (length + 2), bool), np.full(count, length + 2), np.full(count, length),
        np.full(count, NO_PAIR, np.int8),
        np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64), np.zeros(count, np.uint32),
    )  # fmt: skip
    per_place = np.bincount(mask(samples, MaskConfig("token"), VOCABULARY, 0, 0).positions, minlength=length + 2)
    expected = count * 8 / length
    assert per_place[0] == per_place[-1] == 0
    assert np.abs(per_place[1:-1] - expected).max() < 5 * np.sqrt(expected)


def test_masks_do_not_depend_on_company_and_copies_differ(samples):
    together = mask(samples, MaskConfig(), VOCABULARY, 0, 0)
    index = np.array([5, 900, 3])
    alone = mask(samples.take(index), MaskConfig(), VOCABULARY, 0, 0)
    taken = together.take(index)
    for name in ("positions", "inputs", "counts"):
        assert np.array_equal(getattr(taken, name), getattr(alone, name))
    other = mask(samples, MaskConfig(), VOCABULARY, 0, 1)
    assert not np.array_equal(together.positions, other.positions)


def test_columns_take_and_concatenate(samples):
    halves = concatenate([samples.take(np.arange(100)), samples.take(np.arange(100, len(samples)))])
    assert np.array_equal(halves.ids, samples.ids) and np.array_equal(halves.words, samples.words)
    assert ranges([3, 10, 7], [2, 0, 3]).tolist() == [3, 4, 7, 8, 9]


def test_configs_report_everything_at_once():
    with pytest.raises(ValueError, match=r"rate 2.*copies 0"):
        MaskConfig(rate=2, copies=0)
    with pytest.raises(ValueError, match=r"seq_length 3.*short_share -1"):
        PairConfig(3, -1)
