"""The cache among several readers, when it is full, and where it cannot be written."""

from __future__ import annotations

import os
import threading
import time
import warnings
from pathlib import Path

import pytest

from data_tools.shards.cache import Cache


def entries(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir() if len(path.name) == 40]


def test_an_entry_is_fetched_once_whoever_asks(tmp_path: Path) -> None:
    fetched = []

    def fetch() -> bytes:
        fetched.append(1)
        time.sleep(0.1)
        return b"0123456789"

    found: list[bytes] = []
    caches = [Cache(tmp_path, 1000) for _ in range(8)]  # as in eight processes: nothing but the folder is shared
    readers = [
        threading.Thread(target=lambda cache=cache: found.append(cache.read("x", fetch, 2, 5))) for cache in caches
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [b"234"] * 8 and fetched == [1]
    assert Cache(tmp_path, 1000).read("x", fetch) == b"0123456789"


def test_it_keeps_to_its_size_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for number in range(60):
        cache.read(f"entry {number}", lambda: bytes(90))
        cache.read("entry 0", lambda: pytest.fail("dropped while in use"))
        assert sum(entries(tmp_path)) <= 1000
        time.sleep(0.002)  # files are told apart by the time of their use
    assert sum(entries(tmp_path)) > 500
    with pytest.raises(AssertionError):
        cache.read("entry 1", _gone)


def _gone() -> bytes:
    raise AssertionError


def test_a_size_that_a_kill_left_wrong_is_counted_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    cache.read("x", lambda: bytes(400))
    (tmp_path / "size").write_text("")
    stale = tmp_path / "killed.tmp"
    stale.write_bytes(bytes(50))
    os.utime(stale, (0, 0))
    cache.read("y", lambda: bytes(300))
    assert (tmp_path / "size").read_text() == "700" and not stale.exists()


def test_what_is_larger_than_the_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"http://x: its 0.0 MB are too many for a cache of 0.0 MB: raise data.cache_gb"
    ):
        Cache(tmp_path, 1000).read("http://x", lambda: bytes(2000))


def test_one_that_cannot_be_written_is_read_and_says_so_once(tmp_path: Path) -> None:
    """A file where the folder should be: as little can be written there as on a read-only disk, even by root."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    cache = Cache(blocked / "cache", 1000)
    with pytest.warns(UserWarning, match=r"keeps nothing new: .*; set data.cache"):
        assert cache.read("x", lambda: b"abc") == b"abc"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.read("x", lambda: b"abc", 1, 2) == b"b"
    with pytest.raises(ValueError, match=r"x cannot be kept: .*; set data.cache"):
        cache.read("x", lambda: b"abc", 1, 2, keep=True)


def test_a_full_disk_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, 1000)

    def full(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert cache.read("x", lambda: b"abc") == b"abc"
    assert not list(tmp_path.glob("*.tmp")) and not entries(tmp_path)
