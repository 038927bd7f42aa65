"""The sample a tokenizer learns from: its sources as weighted, whatever the order, in bounded memory."""

import dataclasses
import subprocess
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from data_tools.documents.mixture import MixConfig
from data_tools.text.training import TokenizerConfig, fair_sample


def documents(count, rng):
    """Documents of two sources in equal shares, of 50 to 150 characters, each with a number of its own."""
    for number, length in enumerate(rng.integers(50, 151, count)):
        source = "ab"[number % 2]
        yield source, f"{source}{number:08d}".ljust(length, "文")


def characters_by_source(sample):
    counts: Counter[str] = Counter()
    for text in sample:
        counts[text[0]] += len(text)
    return counts


@pytest.mark.parametrize("weights", [{}, {"b": 3.0}, {"a": 0.25, "b": 0.75}])
def test_sources_have_the_shares_of_their_weights(weights):
    """A small part of the corpus: drawing without replacement exhausts no source."""
    config = TokenizerConfig(sample_characters=100_000)
    expected = weights.get("b", 1.0) / (weights.get("a", 1.0) + weights.get("b", 1.0))
    shares = []
    for seed in range(8):
        config = dataclasses.replace(config, seed=seed)
        counts = characters_by_source(
            fair_sample(documents(40_000, np.random.default_rng(0)), config, MixConfig(weights))
        )
        assert config.sample_characters - 150 < counts.total() <= config.sample_characters
        shares.append(counts["b"] / counts.total())
    # 8 x 1000 documents; the 2.5 % that are taken move a share of 3/4 by less than 0.01 of it
    error = np.sqrt(expected * (1 - expected) / 8000)
    assert abs(np.mean(shares) - expected) < 4 * error + 0.01 * (expected != 0.5)


def test_the_draws_are_efraimidis_and_spirakis(monkeypatch):
    """The same documents as sorting all of them by u^(1/w) gives, with numpy's uniform numbers for the keys."""
    rng = np.random.default_rng(1)
    corpus = list(documents(300, rng))
    keys = {text: int(key) for (_, text), key in zip(corpus, rng.integers(1 << 63, size=300) * 2, strict=True)}
    monkeypatch.setattr("data_tools.text.training.key_of", lambda *parts: keys[parts[-1]])
    weights = {"a": 2.0, "b": 0.5}
    by_key = sorted(corpus, key=lambda one: (1 - keys[one[1]] / 2**64) ** (1 / weights[one[0]]), reverse=True)
    ends = np.cumsum([len(text) for _, text in by_key])
    expected = {text for (_, text), end in zip(by_key, ends, strict=True) if end <= 5000}
    config = TokenizerConfig(sample_characters=5000)
    assert set(fair_sample(corpus, config, MixConfig(weights))) == expected
    assert set(fair_sample(corpus[::-1], config, MixConfig(weights))) == expected


def test_memory_is_that_of_the_sample():
    """Four times the corpus takes no more memory."""
    peaks = []
    for count in (20_000, 80_000):
        tracemalloc.start()
        sample = fair_sample(
            documents(count, np.random.default_rng(0)), TokenizerConfig(sample_characters=50_000), MixConfig()
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(map(len, sample)) <= 50_000
    baseline = 2 * 50_000 + 8 * 80_000  # two bytes a character; the test's own lengths, 8 bytes a document
    assert peaks[1] - 8 * 60_000 < 1.2 * peaks[0] and peaks[1] < 2 * baseline


def test_one_document_longer_than_the_sample_is_kept_and_a_weight_of_zero_is_not():
    config = TokenizerConfig(sample_characters=10)
    assert fair_sample([("a", "长" * 20)], config, MixConfig()) == ["长" * 20]
    assert fair_sample([("a", "长"), ("b", "短")], config, MixConfig({"a": 0.0})) == ["短"]


def test_the_command_line_takes_weights_and_refuses_a_source_that_is_not_there(corpus, tmp_path):
    def run(weights, name):
        arguments = ["tokenizer", "--input", corpus, "--output", tmp_path / name, "--vocab-size", "300"]
        command = [sys.executable, "-m", "data_tools", *map(str, arguments), "--mix.weights", weights]
        return subprocess.run(command, capture_output=True, text=True)

    assert run('{"made-up": 2}', "there").returncode == 0
    absent = run('{"wiki": 2, "made-up": 1}', "absent")
    assert absent.returncode == 2 and "no document of the source 'wiki'" in absent.stderr
    negative = run('{"made-up": -1}', "negative")
    assert negative.returncode == 2 and "made-up -1" in negative.stderr
