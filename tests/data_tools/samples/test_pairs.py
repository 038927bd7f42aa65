"""Pairs beside naive references: every token once, in samples that are what they say."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.samples.columns import Samples, concatenate, ranges
from data_tools.samples.pairs import NO_PAIR, PairConfig, pair
from data_tools.samples.strangers import strangers
from data_tools.shards.keyed_rng import draws, key_of
from data_tools.text.tokenizer import CLS, SEP
from tests.data_tools.samples.made_up import VOCABULARY, documents_of, each, made_up_documents

CONFIGS = st.builds(
    PairConfig,
    seq_length=st.integers(8, 80),
    short_share=st.sampled_from([0.0, 0.1, 1.0]),
    objective=st.sampled_from(["sop", "nsp", "none"]),
    pack=st.booleans(),
)


def check(samples: Samples, documents, config: PairConfig) -> None:
    """Every token of the documents stands in one sample once, and every sample is what it says."""
    ids, lengths, sentences, _, keys, sources = documents
    document_of = np.repeat(np.arange(len(lengths)), lengths)
    ends = set((np.cumsum(lengths) + 4).tolist())  # the last id of each document
    seen = []
    for (sample, a, b, order), key, source in zip(each(samples), samples.documents, samples.sources, strict=True):
        assert len(sample) <= config.seq_length and sample[0] == CLS and sample[-1] == SEP and a
        for segment in (a, b):
            assert segment == list(range(segment[0], segment[-1] + 1)) if segment else True  # consecutive
        of_a, of_b = ({int(document_of[token - 5]) for token in segment} for segment in (a, b))
        assert len(of_a) == 1 and keys[min(of_a)] == key and sources[min(of_a)] == source
        if order == NO_PAIR:
            assert not b and sample == [CLS, *a, SEP]
            room = config.seq_length - 3 - (config.objective == "none")
            assert config.objective == "none" or not sentences[np.array(a[1:room], int) - 5].any()
        else:
            assert sample == [CLS, *a, SEP, *b, SEP] and b
            second = a if order == 1 and config.objective == "sop" else b
            assert sentences[second[0] - 5]
            if config.objective == "nsp" and order == 1:
                assert of_a.isdisjoint(of_b) and len(of_b) == 1
            else:
                assert (b[-1] + 1 == a[0]) if order == 1 else (a[-1] + 1 == b[0])
                assert of_a == of_b
        if config.pack and not config.short_share:
            assert len(sample) == config.seq_length or ends & {a[-1], *b[-1:]}
        seen += a + b
    assert sorted(seen) == ids.tolist()
    for document, key in enumerate(keys):
        of_document = np.sort(samples.numbers[samples.documents == key])
        assert np.array_equal(of_document, np.arange(len(of_document))), document


@given(
    st.lists(st.one_of(st.integers(1, 4), st.integers(1, 400)), min_size=1, max_size=12),
    CONFIGS,
    st.sampled_from([0.0, 0.02, 0.1, 1.0]),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.integers(0, 3),
)
@settings(max_examples=400, deadline=None)
def test_no_token_is_lost_or_doubled_and_pairs_are_what_they_say(lengths, config, sentence, word, seed):
    documents = documents_of(lengths, seed, sentence, word)
    check(pair(*documents, config, VOCABULARY, seed), documents, config)


@pytest.mark.parametrize("objective", ["sop", "nsp", "none"])
@pytest.mark.parametrize("pack", [False, True])
def test_nor_in_a_huge_document_among_small_ones(objective, pack):
    documents = documents_of([1, 200_000, 2, 900, 900], 0)
    config = PairConfig(64, objective=objective, pack=pack)
    check(pair(*documents, config, VOCABULARY, 1), documents, config)


def test_pairs_equal_a_walk_through_each_document():
    documents = made_up_documents(1)
    config, seed = PairConfig(64, 0.3), 3
    samples = pair(*documents, config, VOCABULARY, seed)
    found = sorted(
        (int(d), int(n), s) for d, n, s in zip(samples.documents, samples.numbers, each(samples), strict=True)
    )
    assert found == sorted(walked(*documents, config, seed))


def walked(ids, lengths, sentences, words, keys, _, config, seed):
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
    ids, lengths, sentences, words, keys, sources = documents_of(np.full(4000, 900), 0)
    sentences[:] = np.arange(len(ids)) % 10 == 0
    samples = pair(ids, lengths, sentences, words, keys, sources, PairConfig(64, 0.1), VOCABULARY, 0)
    paired = samples.order != NO_PAIR
    swapped = (samples.order[paired] == 1).mean()
    assert abs(swapped - 0.5) < 4 * 0.5 / np.sqrt(paired.sum())
    lengths_of_first = samples.lengths[samples.numbers == 0]  # short ones are drawn alike for lengths 2 to 61
    assert abs((lengths_of_first < 63).mean() - 0.1 * 58 / 60) < 4 * np.sqrt(0.1 * 0.9 / 4000)
    cuts = samples.first[paired & (samples.lengths == 63) & (samples.order == 0)]
    counts = np.bincount(cuts // 10, minlength=6)[1:6]
    assert counts.sum() == len(cuts) and np.abs(counts - len(cuts) / 5).max() < 5 * np.sqrt(len(cuts) / 5)


def test_packed_samples_keep_the_share_of_short_ones():
    documents = documents_of(np.full(4000, 900), 0)
    samples = pair(*documents, PairConfig(64, 0.1, pack=True), VOCABULARY, 0)
    first = samples.lengths[samples.numbers == 0]
    assert abs((first < 63).mean() - 0.1 * 58 / 60) < 4 * np.sqrt(0.1 * 0.9 / 4000)


@pytest.mark.parametrize("seq_length", [128, 512])
def test_half_of_the_pairs_have_a_strangers_second_segment(seq_length):
    documents = documents_of(np.random.default_rng(0).integers(20, 3000, 600), 0)
    samples = pair(*documents, PairConfig(seq_length, objective="nsp"), VOCABULARY, 0)
    paired = samples.order != NO_PAIR
    assert abs((samples.order[paired] == 1).mean() - 0.5) < 0.02 + 4 * 0.5 / np.sqrt(paired.sum())
    # Neither where a segment is cut nor how long a sample is tells the two kinds apart.
    for column in (samples.first, samples.lengths):
        true, strange = (column[samples.order == order] for order in (0, 1))
        error = np.sqrt(true.var() / len(true) + strange.var() / len(strange))
        assert abs(true.mean() - strange.mean()) < 4 * error


def test_a_document_alone_has_no_strangers():
    samples = pair(*documents_of([5000], 0), PairConfig(64, objective="nsp"), VOCABULARY, 0)
    assert set(samples.order.tolist()) <= {0, NO_PAIR} and (samples.order == 0).any()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_strangers_change_places_wherever_there_are_any(samples):
    documents, groups = (np.array([sample[i] for sample in samples], np.int64) for i in (0, 1))
    found = strangers(documents.astype(np.uint64), groups)
    assert sorted(found.tolist()) == list(range(len(samples)))
    assert np.array_equal(groups[found], groups)
    moved = found != np.arange(len(samples))
    assert (documents[found] != documents)[moved].all()
    for group in set(groups.tolist()):
        sizes = np.bincount(documents[groups == group])
        assert moved[groups == group].sum() == min(sizes.sum(), 2 * (sizes.sum() - sizes.max()))


def test_columns_take_concatenate_and_part():
    samples = pair(*made_up_documents(7), PairConfig(64), VOCABULARY, seed=5)
    halves = concatenate([samples.take(np.arange(100)), samples.take(np.arange(100, len(samples)))])
    parts = concatenate(list(samples.blocks(37)))
    for field in dataclasses.fields(Samples):
        for again in (halves, parts):
            assert np.array_equal(getattr(again, field.name), getattr(samples, field.name)), field.name
    assert ranges([3, 10, 7], [2, 0, 3]).tolist() == [3, 4, 7, 8, 9]


def test_the_config_reports_everything_at_once():
    with pytest.raises(ValueError, match=r"seq_length 3.*short_share -1"):
        PairConfig(3, -1)
