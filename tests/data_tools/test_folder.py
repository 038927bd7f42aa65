"""Shards over HTTP, from servers good and bad."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools.shards import folder as folders
from data_tools.shards.cache import Cache
from data_tools.shards.folder import LocalFolder, RemoteFolder
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import DamagedBlock, ShardReader
from tests.server import served


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_FIRST_WAIT", 0.001)


def read_all(files: LocalFolder | RemoteFolder, shards: Path) -> list[list[int]]:
    entry = Manifest.load(shards).splits["train"]
    readers = [(ShardReader(files, shard), len(shard.samples)) for shard in entry.shards]
    return [reader.read(block, 0).samples.ids.tolist() for reader, count in readers for block in range(count)]


FAULTS = ("503", "drop", "cut", "flip", "500")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_fails_one_request_in_five_gives_what_the_disk_gives(shards, tmp_path, ranges):
    expected = read_all(LocalFolder(shards), shards)
    bad = lambda number: FAULTS[number // 5 % 5] if number % 5 == 0 else ""  # noqa: E731
    with served(shards, ranges, bad) as server:
        remote = RemoteFolder(server.url, Cache(tmp_path / "cache", 10**8))
        assert read_all(remote, shards) == expected
        asked = len(server.requests)
        files = len(list(shards.glob("train-*.tar")))
        assert asked > len(expected) if ranges else files < asked < len(expected)
        again = RemoteFolder(server.url, Cache(tmp_path / "cache", 10**8))
        again._gives_parts = ranges
        assert read_all(again, shards) == expected and len(server.requests) == asked


def test_a_cache_too_small_for_an_epoch_still_gives_it(shards, tmp_path):
    with served(shards) as server:
        remote = RemoteFolder(server.url, Cache(tmp_path, 100_000))
        assert read_all(remote, shards) == read_all(LocalFolder(shards), shards)
        held = sum(path.stat().st_size for path in tmp_path.iterdir() if len(path.name) == 40)
        assert held <= 100_000


def test_damage_on_the_way_is_fetched_again_and_damage_at_the_source_is_named(shards, tmp_path):
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    shard = Manifest.load(copy).splits["train"].shards[0]
    with served(copy, bad=lambda number: "flip" if number == 1 else "") as server:
        remote = RemoteFolder(server.url, Cache(tmp_path / "cache", 10**8))
        reader = ShardReader(remote, shard)
        assert len(reader.read(0, 0).samples) == shard.samples[0] and len(server.requests) == 2
        data = bytearray((copy / shard.name).read_bytes())
        data[shard.offsets[1] + 700] ^= 1
        (copy / shard.name).write_bytes(data)
        with pytest.raises(
            DamagedBlock, match=rf"{server.url}/{shard.name}, block 00000-00001 at byte {shard.offsets[1]}"
        ):
            reader.read(1, 0)
        (copy / shard.name).write_bytes(data[: shard.offsets[2] + 900])
        with pytest.raises(DamagedBlock, match=r"block 00000-00002 at byte .*: damaged .the file is cut off"):
            reader.read(2, 0)


def test_a_damaged_entry_of_the_cache_is_fetched_again(shards, tmp_path):
    shard = Manifest.load(shards).splits["train"].shards[0]
    with served(shards) as server:
        reader = ShardReader(RemoteFolder(server.url, Cache(tmp_path, 10**8)), shard)
        reader.read(0, 0)
        (entry,) = (path for path in tmp_path.iterdir() if len(path.name) == 40)
        data = bytearray(entry.read_bytes())
        data[600] ^= 1
        entry.write_bytes(data)
        reader.read(0, 0)
        assert len(server.requests) == 2


def test_an_index_is_sound_or_fetched_again_or_none(shards, tmp_path):
    with served(shards) as server:
        remote = RemoteFolder(server.url, Cache(tmp_path, 10**8))
        answers = iter([False, True])
        found = remote.array("train.lengths.npy", lambda data: next(answers))
        assert found is not None and len(server.requests) == 2
        assert np.array_equal(found, np.load(shards / "train.lengths.npy"))
        assert remote.array("train.lengths.npy", lambda data: False) is None
    assert LocalFolder(shards).array("train.lengths.npy", lambda data: False) is None
    assert LocalFolder(shards).array("nowhere.npy", lambda data: True) is None


@pytest.mark.parametrize(
    ("fault", "said"), [("404", "missing; build the shards again"), ("503", "cannot be read, tried 8 times: .*503")]
)
def test_what_stays_wrong_is_one_line_with_its_url(shards, tmp_path, fault, said):
    with served(shards, bad=lambda number: fault) as server:
        remote = RemoteFolder(server.url, Cache(tmp_path, 10**8))
        with pytest.raises(ValueError, match=rf"^{server.url}/manifest.json: {said}") as caught:
            remote.whole("manifest.json")
        assert len(server.requests) == (1 if fault == "404" else 8) and "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_said_in_the_system_s_words(tmp_path):
    with served(tmp_path) as server:
        url = server.url
    with pytest.raises(ValueError, match=rf"^{url}/manifest.json: cannot be read, tried 8 times: Connect call failed"):
        RemoteFolder(url, Cache(tmp_path, 10**8)).whole("manifest.json")


def test_a_kind_of_url_that_nothing_can_open_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere://x: cannot be opened: .*nowhere"):
        RemoteFolder("nowhere://x", Cache(tmp_path, 10**8))


def test_another_file_system_is_read_through_its_url(shards, tmp_path):
    """fsspec's own in memory stands for a bucket."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        if path.is_file():
            memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    remote = RemoteFolder("memory://bucket", Cache(tmp_path, 10**8))
    assert read_all(remote, shards) == read_all(LocalFolder(shards), shards)
