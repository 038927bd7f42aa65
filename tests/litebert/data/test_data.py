"""Order, plan and loader beside naive references: every sample once, from anywhere, on any number of ranks."""

import itertools

import numpy as np
import pytest

from data_tools.shards.keyed_rng import key_of, permutation
from data_tools.text.tokenizer import MASK
from litebert.data.loader import Loader
from litebert.data.order import Order
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split

SIZES = [50] * 9 + [13, 50, 50, 7]


@pytest.fixture(scope="module")
def train(shards) -> Split:
    return Split(shards, "train")


def naive_order(sizes, fingerprint, seed, epoch, window_blocks):
    """An epoch written out: permute the blocks, then the samples of each window of blocks."""
    begins = np.cumsum(sizes) - sizes
    blocks = permutation(key_of(fingerprint, seed, epoch, "blocks"), len(sizes)).tolist()
    for window, first in enumerate(range(0, len(blocks), window_blocks)):
        samples = [s for b in blocks[first : first + window_blocks] for s in range(begins[b], begins[b] + sizes[b])]
        yield from (samples[i] for i in permutation(key_of(fingerprint, seed, epoch, "window", window), len(samples)))


@pytest.mark.parametrize("window_blocks", [1, 4, 100])
def test_order_is_the_written_out_epoch_from_anywhere(window_blocks):
    expected = list(naive_order(SIZES, "f", 3, 2, window_blocks))
    assert sorted(expected) == list(range(sum(SIZES)))
    order = Order(SIZES, "f", 3, 2, window_blocks)
    assert len(order) == sum(SIZES)
    for begin, end in [(0, 1), (0, len(order)), (49, 51), (120, 340), (len(order) - 1, len(order))]:
        parts = [(window, rows, order.samples(window, rows)) for window, rows in order.between(begin, end)]
        found = [int(sample) for _, _, samples in parts for sample in samples]
        assert sorted(found) == sorted(expected[begin:end])
        for _, rows, _ in parts:
            assert (np.diff(rows) > 0).all()


def test_orders_of_other_epochs_seeds_and_data_differ():
    orders = [tuple(naive_order(SIZES, *key, 4)) for key in [("f", 1, 0), ("f", 1, 1), ("f", 2, 0), ("g", 1, 0)]]
    assert len(set(orders)) == 4


def test_each_epoch_reads_every_sample_once_across_its_borders(train):
    plan = Plan(train, DataConfig(global_batch=37, micro_tokens=256, seed=1))
    steps = -(-3 * train.samples // 37)
    seen: dict[int, list[int]] = {}
    for number in range(steps):
        for run in plan.step(number).runs:
            seen.setdefault(run.epoch, []).extend(run.samples.tolist())
    for epoch in range(3):
        assert sorted(seen[epoch]) == list(range(train.samples))
    assert seen[0] != seen[1]


def test_an_epoch_by_itself_ends_with_what_is_left(train):
    steps = list(Loader(train, DataConfig(global_batch=37, micro_tokens=256), 0, 1))
    assert [step.counts.samples for step in steps] == [37] * (train.samples // 37) + [train.samples % 37]
    assert sum(len(batch.order) for step in steps for batch in step.micro_batches) == train.samples


def test_a_step_is_a_function_of_its_number(train):
    config = DataConfig(global_batch=37, micro_tokens=256)
    forwards = [read(Plan(train, config).step(number)) for number in range(20)]
    plan = Plan(train, config)
    assert [read(plan.step(number)) for number in reversed(range(20))] == forwards[::-1]
    assert len(set(forwards)) == 20


def read(step):
    """The samples of a step, in order."""
    return tuple(int(sample) for run in step.runs for sample in run.samples)


@pytest.mark.parametrize(("global_batch", "micro_tokens"), [(256, 512), (64, 128), (7, 10_000)])
def test_cuts_cover_the_batch_evenly_within_the_budget(train, global_batch, micro_tokens):
    plan = Plan(train, DataConfig(global_batch, micro_tokens))
    for number, world_size in itertools.product(range(5), (1, 2, 3, 5, 7)):
        step = plan.step(number)
        cuts = plan.cuts(step, world_size)
        edges = [*cuts[:, 0], cuts[-1, -1]]
        assert edges[0] == 0 and edges[-1] == global_batch and (cuts[1:, 0] == cuts[:-1, -1]).all()
        ends = np.concatenate([[0], np.cumsum(step.lengths)])
        tokens = np.diff(ends[cuts])
        assert (np.diff(cuts) >= 1).all()
        assert tokens.max() <= micro_tokens
        if global_batch > 7:
            assert tokens.max() - tokens.min() <= 2 * step.lengths.max()


def flat(batch):
    """The samples of a micro-batch as comparable tuples."""
    for start, length in zip(batch.packing.first.tolist(), batch.packing.lengths, strict=True):
        inside = (batch.masked >= start) & (batch.masked < start + length)
        index = batch.packing.first.tolist().index(start)
        yield (
            tuple(batch.ids[start : start + length].tolist()),
            tuple(batch.token_types[start : start + length].tolist()),
            tuple((batch.masked[inside] - start).tolist()),
            tuple(batch.labels[inside].tolist()),
            int(batch.order[index]),
        )


def naive_sample(train, sample, copy):
    """One sample read and masked by itself."""
    block, row = 0, sample
    while row >= train.block_samples[block]:
        row -= train.block_samples[block]
        block += 1
    data = train.block(block, copy)
    begin = int(data.samples.lengths[:row].sum())
    ids = data.samples.ids[begin : begin + data.samples.lengths[row]].tolist()
    first_mask = int(data.masks.counts[:row].sum())
    positions = data.masks.positions[first_mask : first_mask + data.masks.counts[row]].tolist()
    labels = [ids[position] for position in positions]
    for position, shown in zip(positions, data.masks.inputs[first_mask:].tolist(), strict=False):
        ids[position] = shown
    types = [int(place >= data.samples.first[row] + 2) for place in range(len(ids))]
    return tuple(ids), tuple(types), tuple(positions), tuple(labels), int(data.samples.order[row])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_together_hold_the_planned_samples(train, world_size):
    config = DataConfig(global_batch=40, micro_tokens=512)
    plan = Plan(train, config)
    ranks = [list(Loader(train, config, rank, world_size, start=15, stop=25)) for rank in range(world_size)]
    for number, steps in zip(range(15, 25), zip(*ranks, strict=True), strict=True):
        expected = [naive_sample(train, int(sample), 0) for run in plan.step(number).runs for sample in run.samples]
        found = [sample for step in steps for batch in step.micro_batches for sample in flat(batch)]
        assert sorted(found) == sorted(expected)
        assert len({len(step.micro_batches) for step in steps}) == 1
        assert {step.number for step in steps} == {number}
        counts = steps[0].counts
        batches = [batch for step in steps for batch in step.micro_batches]
        assert counts.samples == 40 == sum(len(batch.order) for batch in batches)
        assert counts.tokens == sum(len(batch.ids) for batch in batches)
        assert counts.masked == sum(len(batch.masked) for batch in batches)
        assert counts.pairs == sum(int((batch.order >= 0).sum()) for batch in batches)
        assert all(batch.packing.tokens <= 512 for batch in batches)


def test_masked_inputs_are_what_the_labels_were_replaced_by(train):
    (step,) = Loader(train, DataConfig(global_batch=train.samples, micro_tokens=10**6), 0, 1, 0, 1)
    (batch,) = step.micro_batches
    shown = batch.ids[batch.masked]
    assert 0.75 < (shown == MASK).float().mean() < 0.85
    rest = torch_complement(batch)
    assert not (batch.ids[rest] == MASK).any()


def torch_complement(batch):
    import torch

    rest = torch.ones(len(batch.ids), dtype=torch.bool)
    rest[batch.masked] = False
    return rest


def test_a_loader_left_early_leaves_no_thread(train):
    import threading

    before = threading.active_count()
    iterator = iter(Loader(train, DataConfig(8, 512), 0, 1, 0, 1000))
    next(iterator)
    iterator.close()
    assert threading.active_count() == before


def test_a_damaged_block_is_named_where_it_is_met(shards, tmp_path):
    import shutil

    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    tar = folder / "train-00000.tar"
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-00000.tar, block 00000-00000 at byte 0: damaged"):
        list(Loader(Split(folder, "train"), DataConfig(40, 512), 0, 1))


def test_what_cannot_be_planned_is_refused(train, tmp_path):
    with pytest.raises(ValueError, match=r"data\.micro_tokens 100 is less than two samples"):
        Plan(train, DataConfig(8, 100))
    with pytest.raises(ValueError, match="global_batch 4 is too few samples for 5 ranks"):
        plan = Plan(train, DataConfig(4, 512))
        plan.cuts(plan.step(0), 5)
    with pytest.raises(ValueError, match=r"global_batch 0.*micro_tokens 0"):
        DataConfig(0, 0)
    with pytest.raises(ValueError, match=r"no shards at .*: there is no manifest.json"):
        Split(tmp_path, "train")
    with pytest.raises(ValueError, match=r"no split 'test'; there are heldout, train"):
        Split(train.location, "test")
