"""What stats says is what a loop over every token says, and its plots are pictures."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_tools.build import build
from data_tools.samples.masks import MaskConfig
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.statistics.counts import SplitCounts, counted
from data_tools.statistics.plots import by_position


@pytest.fixture(scope="module")
def two_copies(corpus, tokenizer_folder, build_config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("statistics") / "shards"
    build([corpus], tokenizer_folder, folder, dataclasses.replace(build_config, masks=MaskConfig(copies=2)))
    return folder


def naive(folder, split, mask_id):
    """The same counts, a token at a time."""
    counts: dict[str, Counter] = {field.name: Counter() for field in dataclasses.fields(SplitCounts)}
    for shard in Manifest.load(folder).splits[split].shards:
        reader = ShardReader(folder, shard)
        for block in range(len(shard.samples)):
            for copy in range(2):
                data = reader.read(block, copy)
                for row in range(len(data.samples)):
                    one = data.take(np.array([row]))
                    count_sample(counts, one.samples, one.masks, copy, mask_id)
    return counts


def count_sample(counts, sample, masks, copy, mask_id):
    ids, words = sample.ids.tolist(), sample.words.tolist()
    inside = [p for p in range(len(ids)) if p not in (0, 1 + int(sample.first[0]), len(ids) - 1)]
    if copy == 0:
        counts["lengths"][len(ids)] += 1
        counts["words"][sum(words[p] for p in inside)] += 1
        counts["sources"][int(sample.sources[0])] += len(ids)
        counts["orders"][int(sample.order[0]) + 1] += 1
        counts["maskable"].update(inside)
        counts["unigram"].update(ids[p] for p in inside)
    shown = dict(zip(masks.positions.tolist(), masks.inputs.tolist(), strict=True))
    counts["rates"][int(100 * len(shown) / max(len(inside), 1) + 0.5)] += 1
    unit = run = 0
    for position in range(len(ids) + 1):
        ends = position not in shown
        if unit and (ends or words[position]):
            counts["units"][unit] += 1
            unit = 0
        if run and ends:
            counts["runs"][run] += 1
            run = 0
        if not ends:
            unit, run = unit + 1, run + 1
            kind = 0 if shown[position] == mask_id else 2 if shown[position] == ids[position] else 1
            counts["masked"][copy, position] += 1
            counts["kinds"][copy, kind] += 1


def as_counter(array):
    return Counter(
        {where[0] if len(where) == 1 else where: int(array[where]) for where in zip(*array.nonzero(), strict=True)}
    )


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_counts_are_those_of_a_loop(two_copies, tokenizer, split):
    mask_id = tokenizer.vocabulary.mask
    found = counted(two_copies, Manifest.load(two_copies), mask_id)[split]
    expected = naive(two_copies, split, mask_id)
    for name, counts in expected.items():
        assert as_counter(getattr(found, name)) == counts, name
    assert sum(expected["units"].values()) > sum(expected["runs"].values()) > 100


def test_tables_and_plots(two_copies, tokenizer, tmp_path):
    command = [
        sys.executable,
        "-m",
        "data_tools",
        "stats",
        two_copies,
        "--output",
        tmp_path / "plots",
        "--frequent",
        "3",
    ]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    manifest = Manifest.load(two_copies)
    tables = {table.split("\n")[0]: table.split("\n")[1:] for table in result.stdout.strip().split("\n\n")}
    assert tables["== documents read"][-1].split() == ["read", f"{manifest.documents_read:,}", "100.00%"]
    unigram = np.load(two_copies / "train.unigram.npy") + np.load(two_copies / "heldout.unigram.npy")
    best = int(unigram.argmax())
    share = f"{unigram[best] / unigram.sum():.3%}"
    assert tables["== frequent tokens"][1].split() == ["1", tokenizer.pieces[best], f"{unigram[best]:,}", share]
    assert len(tables["== frequent tokens"]) == 4
    train = manifest.splits["train"]
    characters = next(line for line in tables["== corpus"] if line.startswith("characters of a token")).split()
    assert characters[-2] == f"{train.characters / np.load(two_copies / 'train.unigram.npy').sum():.3f}"
    for path in map(Path, result.stdout.split()[-5:]):
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_a_negative_number_of_frequent_tokens_is_refused(two_copies):
    command = [sys.executable, "-m", "data_tools", "stats", str(two_copies), "--frequent", "-5"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "--frequent -5 is negative" in result.stderr and not result.stdout


def test_positions_that_few_samples_reach_are_not_plotted(two_copies, tokenizer):
    counts = counted(two_copies, Manifest.load(two_copies), tokenizer.vocabulary.mask)["heldout"]
    places, shares = by_position(counts)
    expected = {
        place: sum(int(masked[place]) for masked in counts.masked) / (2 * int(tokens))
        for place, tokens in enumerate(counts.maskable)
        if tokens >= 100
    }
    assert dict(zip(places.tolist(), shares.tolist(), strict=True)) == pytest.approx(expected)
    assert 0 < len(places) < np.count_nonzero(counts.maskable)
