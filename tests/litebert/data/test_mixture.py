"""Several folders in shares, beside a walk through the batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_tools.build import build
from data_tools.samples.pairs import PairConfig
from data_tools.shards.assembly import ShardConfig
from litebert.data.corpus import Corpus
from litebert.data.digest import planned_digests
from litebert.data.loader import Loader
from litebert.data.mixture import Mixture
from litebert.data.plan import DataConfig, Plan


@pytest.fixture(scope="module")
def longer(corpus, tokenizer_folder, build_config, tmp_path_factory) -> Path:
    """The same text as samples of twice the length."""
    folder = tmp_path_factory.mktemp("longer") / "shards"
    config = dataclasses.replace(
        build_config, pairs=PairConfig(seq_length=128), shards=ShardConfig(300, 30, heldout_share=0.1)
    )
    build([corpus], tokenizer_folder, folder, config)
    return folder


@pytest.fixture(scope="module")
def both(shards, longer) -> Corpus:
    return Corpus.opened([shards, longer], "train")


@pytest.mark.parametrize(
    "shares",
    [
        {0: [1, 0], 40: [0, 1]},
        {0: [3, 1, 1], 7: [0.2, 0.5, 0.3]},
        {0: [1e-9, 1, 2]},
        {0: [5, 0, 0], 3: [1, 1, 1], 50: [0, 1, 0]},
    ],
)
def test_every_batch_has_its_shares(shares):
    folders, batch = len(shares[0]), 50
    mixture = Mixture([1000] * folders, shares, batch)
    taken = mixture.taken(np.arange(101))
    assert (taken[0] == 0).all() and (taken.sum(axis=1) == batch * np.arange(101)).all()
    assert all((mixture.taken(step) == taken[step]).all() for step in range(101))
    exact = np.zeros((101, folders))
    for step in range(100):
        current = np.array(shares[max(begin for begin in shares if begin <= step)], float)
        exact[step + 1] = exact[step] + batch * current / current.sum()
    assert (np.diff(taken, axis=0) >= 0).all()
    assert np.abs(taken - exact).max() <= folders
    assert np.abs(np.diff(taken - exact, axis=0)).max() <= folders  # in each batch too, not only on average


def test_without_shares_all_epochs_begin_together():
    mixture = Mixture([3000, 700, 1300], {}, 50)
    assert np.abs(mixture.taken(100) - [3000, 700, 1300]).max() <= 2
    assert (Mixture([1234], {}, 50).taken([0, 7]) == [[0], [350]]).all()


def test_each_folder_goes_through_its_own_epochs(both):
    config = DataConfig(global_batch=64, micro_tokens=2048, mixture={0: [3, 1], 30: [1, 3]})
    plan = Plan(both, config)
    seen: dict[tuple[int, int], list[int]] = {}
    for number in range(300):
        step = plan.step(number)
        assert sum(len(run.rows) for run in step.runs) == 64
        assert np.concatenate([run.places for run in step.runs]).tolist() == list(range(64))
        for run in step.runs:
            seen.setdefault((run.folder, run.epoch), []).extend(run.samples.tolist())
    for folder, split in enumerate(both.splits):
        whole = max(epoch for each, epoch in seen if each == folder)
        assert whole >= 1
        for epoch in range(whole):
            assert sorted(seen[folder, epoch]) == list(range(split.samples))


def test_ranks_read_the_mixture_that_is_planned(both):
    config = DataConfig(global_batch=40, micro_tokens=512, mixture={0: [1, 0], 5: [1, 1], 8: [0, 1]})
    expected = planned_digests(Plan(both, config), 12)
    for world_size in (1, 2, 3):
        ranks = [list(Loader(both, config, rank, world_size, 0, 12)) for rank in range(world_size)]
        for number, steps in enumerate(zip(*ranks, strict=True)):
            assert sum(step.digest for step in steps) % 2**64 == int(expected[number])
            assert len({len(step.micro_batches) for step in steps}) == 1
            lengths = [length for step in steps for batch in step.micro_batches for length in batch.packing.lengths]
            assert len(lengths) == 40 and sum(lengths) == steps[0].counts.tokens
            longest = {0: 64, 5: 128, 8: 128}[max(begin for begin in config.mixture if begin <= number)]
            assert 64 * (longest - 64) // 64 < max(lengths) <= longest


def test_what_does_not_fit_is_refused(both, shards, wordpiece_folder, corpus, build_config, tmp_path):
    with pytest.raises(ValueError, match=r"data.mixture has 3 shares from step 4 on, and --data 2 folders"):
        Plan(both, DataConfig(8, 512, mixture={0: [1, 1], 4: [1, 1, 1]}))
    with pytest.raises(
        ValueError, match=r"mixture begins at step 5: .*; mixture \[0, 0\] from step 5 on: shares are 0"
    ):
        DataConfig(mixture={5: [0, 0]})
    build([corpus], wordpiece_folder, tmp_path / "other", build_config)
    with pytest.raises(ValueError, match="other was made with another tokenizer than"):
        Corpus.opened([shards, tmp_path / "other"], "train")
