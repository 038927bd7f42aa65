"""Shards that are not as they were written: each kind of damage is named, or quarantined, and never trained on."""

from __future__ import annotations

import io
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from data_tools.shards import folder as folders
from data_tools.shards.cache import Cache
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import DamagedBlock
from litebert.data.digest import planned_digests
from litebert.data.loader import Loader
from litebert.data.order import WINDOW_BLOCKS
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from tests.server import served

MEMBERS = ("ids", "lengths", "first", "order", "words", "document", "number", "positions.0", "inputs.0", "counts.0")
CONFIG = DataConfig(global_batch=40, micro_tokens=512)


@pytest.fixture
def copied(shards, tmp_path) -> Path:
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    return folder


def epoch(folder: Path | str, cache: Cache | None = None, **changes: str) -> list:
    split = Split(folder, "train", cache)
    config = DataConfig(CONFIG.global_batch, CONFIG.micro_tokens, **changes)  # type: ignore[arg-type]
    return list(Loader(split, config, 0, 1))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("where", ["name", "size", "header", "content"])
def test_a_bit_in_any_member_is_named_with_its_block(copied, member, where):
    path = copied / "train-00001.tar"
    with tarfile.open(path) as archive:
        info = archive.getmember(f"00001-00002.{member}.npy")
    place = {
        "name": info.offset,
        "size": info.offset + 130,
        "header": info.offset_data + 8,
        "content": info.offset_data,
    }
    flip(path, place[where] + (info.size - 1 if where == "content" else 0))
    offset = Manifest.load(copied).splits["train"].shards[1].offsets[2]
    said = rf"^{path}, block 00001-00002 at byte {offset}: damaged .*; build the shards again$"
    with pytest.raises(DamagedBlock, match=said):
        epoch(copied)


def test_every_member_of_a_block_is_among_those(shards):
    with tarfile.open(shards / "train-00000.tar") as archive:
        names = {name.removeprefix("00000-00000.").removesuffix(".npy") for name in archive.getnames()[: len(MEMBERS)]}
    assert names == set(MEMBERS)


@pytest.mark.parametrize("length", [0, 1, 30_000])
def test_a_shard_cut_off_is_named(copied, length):
    path = copied / "train-00002.tar"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedBlock, match=rf"^{path}, block 00002-0000\d at byte \d+: damaged .the file is cut off"):
        epoch(copied)


def test_swapped_shards_are_named(copied):
    one, other = copied / "train-00000.tar", copied / "train-00003.tar"
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    with pytest.raises(DamagedBlock, match=r"train-0000[03].tar, block 0000[03]-\d+ at byte"):
        epoch(copied)


@pytest.mark.parametrize("corrupt", ["stop", "quarantine"])
def test_a_missing_shard_stops_either_way(copied, corrupt):
    (copied / "train-00001.tar").unlink()
    with pytest.raises(ValueError, match=rf"^{copied}/train-00001.tar: missing; build the shards again"):
        epoch(copied, corrupt=corrupt)


@pytest.mark.parametrize("column", ["lengths", "counts", "paired", "unigram"])
@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "swapped"])
def test_an_index_that_does_not_belong_is_named(copied, column, damage):
    path = copied / f"train.{column}.npy"
    if damage == "flip":
        flip(path, path.stat().st_size - 1)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "swapped":
        shutil.copy(copied / f"heldout.{column}.npy", path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=rf"^{path} is missing or not the manifest's; build the shards again"):
        Split(copied, "train")


def test_the_index_of_keys_is_wanted_and_checked_only_by_who_proves(copied):
    flip(copied / "train.keys.npy", 500)
    split = Split(copied, "train")
    assert len(list(Loader(split, CONFIG, 0, 1)))
    with pytest.raises(ValueError, match=r"train.keys.npy is missing or not the manifest's"):
        planned_digests(Plan(split, CONFIG), 1)


def test_samples_that_are_not_the_planned_ones_change_the_digest(copied):
    """A whole and sound block, but of other samples than the index says: no checksum notices."""
    split = Split(copied, "train")
    plan = Plan(split, CONFIG)
    steps = split.samples // CONFIG.global_batch
    expected = planned_digests(plan, steps).tolist()
    own = split.columns
    split.columns = lambda number, copy: own({0: 1, 1: 0}.get(number, number), copy)  # type: ignore[method-assign]
    found = [step.digest for step in Loader(split, CONFIG, 0, 1, 0, steps)]
    touched = [any((run.samples < split.block_ends[1]).any() for run in plan.step(step).runs) for step in range(steps)]
    assert [one != other for one, other in zip(found, expected, strict=True)] == touched and any(touched)


def bad_blocks(folder: Path) -> set[int]:
    """Damages the second and the last block of the second shard; returns the samples in them."""
    entry = Manifest.load(folder).splits["train"]
    lost: set[int] = set()
    for block in (1, len(entry.shards[1].samples) - 1):
        flip(folder / "train-00001.tar", entry.shards[1].offsets[block] + 600)
        first = sum(entry.shards[0].samples) + sum(entry.shards[1].samples[:block])
        lost |= set(range(first, first + entry.shards[1].samples[block]))
    return lost


def test_in_quarantine_are_the_samples_of_the_damaged_blocks_and_no_others(copied, shards):
    lost = bad_blocks(copied)
    whole, found = epoch(shards), epoch(copied, corrupt="quarantine")
    assert [step.number for step in found] == [step.number for step in whole]
    out = np.concatenate([step.quarantined for step in found])
    assert sorted(out.tolist()) == sorted(lost)
    for one, other in zip(found, whole, strict=True):
        assert one.counts.samples == other.counts.samples - len(one.quarantined)
        batches = one.micro_batches
        assert one.counts.samples == sum(len(batch.order) for batch in batches)
        assert one.counts.tokens == sum(len(batch.ids) for batch in batches)
        assert one.counts.masked == sum(len(batch.masked) for batch in batches)
        assert one.counts.pairs == sum(int((batch.order >= 0).sum()) for batch in batches)
        sent = {tuple(ids) for batch in other.micro_batches for ids in ids_of(batch)}
        assert all(tuple(ids) in sent for batch in batches for ids in ids_of(batch))
    assert [step.quarantined.tolist() for step in epoch(shards, corrupt="quarantine")] == [[]] * len(whole)


def ids_of(batch) -> list[list[int]]:
    ids = batch.ids.clone()
    ids[batch.masked] = batch.labels
    return [part.tolist() for part in ids.split(batch.packing.lengths.tolist())]


def test_a_batch_with_nothing_left_is_refused(copied):
    for path in copied.glob("train-*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match="step 0: all of its samples are in damaged blocks"):
        epoch(copied, corrupt="quarantine")


def test_over_http_all_is_the_same(copied, shards, tmp_path, monkeypatch):
    """One request in five fails, blocks are damaged at the source, and the cache holds a fraction of them."""
    monkeypatch.setattr(folders, "_FIRST_WAIT", 0.001)
    bad_blocks(copied)
    expected = epoch(copied, corrupt="quarantine")
    before = set(threading.enumerate())
    with served(copied, bad=lambda number: "503" if number % 5 == 0 else "") as server:
        found = epoch(server.url, Cache(tmp_path / "cache", 10**6), corrupt="quarantine")
        with Split(server.url, "train", Cache(tmp_path / "cache", 10**6)).tokenizer() as tokenizer:
            assert {path.name for path in tokenizer.iterdir()} == {
                path.name for path in (shards / "tokenizer").iterdir()
            }
    assert [step.digest for step in found] == [step.digest for step in expected]
    left = {thread.name for thread in set(threading.enumerate()) - before if "process_request" not in thread.name}
    assert left <= {"fsspecIO"}  # fsspec's own, one for the life of the process


def test_a_block_is_asked_for_once_and_ahead_of_its_window(shards, tmp_path):
    blocks = sum(len(shard.samples) for shard in Manifest.load(shards).splits["train"].shards)
    with served(shards) as server:
        split = Split(server.url, "train", Cache(tmp_path, 10**8))
        opened = len(server.requests)
        first = next(iter(Loader(split, CONFIG, 0, 1)))
        assert first.counts.samples == CONFIG.global_batch
        assert WINDOW_BLOCKS <= len(server.requests) - opened <= blocks
        assert len(list(Loader(split, CONFIG, 0, 1))) == -(-split.samples // CONFIG.global_batch)
        assert len(server.requests) - opened == blocks > WINDOW_BLOCKS


def test_columns_are_what_numpy_reads(shards):
    """Whatever is stored, numpy's own reader and ours agree on it."""
    with tarfile.open(shards / "train-00000.tar") as archive:
        for member in ("ids", "lengths", "first", "order"):
            stream = archive.extractfile(f"00000-00003.{member}.npy")
            assert stream is not None
            expected = np.load(io.BytesIO(stream.read()))
            found = getattr(Split(shards, "train").columns(3, 0), member)
            assert found.dtype == expected.dtype and np.array_equal(found, expected)
