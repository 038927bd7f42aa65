"""The digest of what was decoded, beside one computed a sample at a time in Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest

from litebert.data.digest import planned_digests
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split

FULL = 2**64 - 1


@pytest.fixture(scope="module")
def train(shards) -> Split:
    return Split(shards, "train")


def mixed(number: int) -> int:
    """SplitMix64's finaliser as its authors write it."""
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & FULL
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & FULL
    return number ^ (number >> 31)


def naive_digest(train: Split, plan: Plan, number: int) -> int:
    total = place = 0
    for run in plan.step(number).runs:
        for sample in run.samples.tolist():
            block, row = 0, sample
            while row >= train.block_samples[block]:
                row -= int(train.block_samples[block])
                block += 1
            data = train.block(block, 0).samples
            key = mixed(int(data.documents[row]) + (int(data.numbers[row]) + 1) * 0x9E3779B97F4A7C15 & FULL)
            total += mixed(key ^ mixed(place + (run.epoch << 40)))
            place += 1
    return total & FULL


@pytest.mark.parametrize("batch", [37, 1000, 7])
def test_planned_read_and_naive_digests_are_one(train, batch):
    config = DataConfig(batch, 10**6)
    plan = Plan(train, config)
    stop = 2 * train.samples // batch + 1
    expected = planned_digests(plan, stop).tolist()
    assert len(set(expected)) == stop
    for number in {0, 1, train.samples // batch - 1, train.samples // batch, stop - 1}:
        assert naive_digest(train, plan, number) == expected[number]
    assert [step.digest for step in Loader(train, config, 0, 1, 0, stop)] == expected
    assert planned_digests(plan, 3).tolist() == expected[:3] and len(planned_digests(plan, 0)) == 0


def test_keys_are_as_many_as_samples(train):
    assert len(np.unique(train.keys)) == train.samples
