"""Where the files of a folder of shards are read from: a disk, or a URL through a cache."""

from __future__ import annotations

import functools
import io
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import fsspec
import numpy as np
import numpy.typing as npt

from data_tools.shards.cache import Cache

_T = TypeVar("_T")

_ATTEMPTS = 8
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0  # seconds before another attempt; each wait is twice the one before
_SILENCE = 30.0  # seconds in which a server must say something
_FOR_GOOD = (FileNotFoundError, PermissionError, IsADirectoryError)  # asking again would not help


class Folder(Protocol):
    """The files of a folder. What cannot be read raises ValueError that names the file."""

    location: str

    def read(self, name: str, begin: int, end: int, afresh: bool = False) -> bytes:
        """Bytes [begin, end) of a file, fewer where it is cut off; ``afresh`` is for bytes that turned out wrong."""

    def whole(self, name: str) -> bytes:
        """A small file."""

    def array(self, name: str, sound: Callable[[bytes | memoryview], bool]) -> npt.NDArray | None:
        """An array of numpy's format whose file is sound; None where the file is not, or is not there."""


class LocalFolder:
    """A folder on a disk."""

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._path = Path(path)

    def read(self, name: str, begin: int, end: int, afresh: bool = False) -> bytes:
        try:
            with (self._path / name).open("rb", buffering=0) as stream:
                stream.seek(begin)
                return stream.read(end - begin)
        except OSError as error:
            raise _unreadable(f"{self._path / name}", error) from error

    def whole(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise _unreadable(f"{self._path / name}", error) from error

    def array(self, name: str, sound: Callable[[bytes | memoryview], bool]) -> npt.NDArray | None:
        path = self._path / name
        if not path.is_file():
            return None
        mapped = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
        return np.load(path, mmap_mode="r", allow_pickle=False) if sound(mapped.data) else None


class RemoteFolder:
    """A folder at a URL that fsspec can open.

    Blocks are asked for one by one where the server can give a part of a file, else whole files are; both are kept in
    a cache. A request that fails is made again, a little later each time.
    """

    def __init__(self, url: str, cache: Cache) -> None:
        self.location = url.rstrip("/")
        try:
            self._files, _ = fsspec.core.url_to_fs(self.location, **_options(self.location))
        except (ImportError, ValueError) as error:
            raise ValueError(f"{url}: cannot be opened: {error}") from error
        self._cache = cache
        self._gives_parts = True

    def read(self, name: str, begin: int, end: int, afresh: bool = False) -> bytes:
        part, whole = f"{self.location}/{name}[{begin}:{end}]", f"{self.location}/{name}"
        if afresh:
            self._cache.discard(part)
            self._cache.discard(whole)
        if self._gives_parts:
            try:
                return self._cache.read(part, lambda: self._part(name, begin, end))
            except _WholeFile:
                self._gives_parts = False
        return self._cache.read(whole, lambda: self.whole(name), begin, end, keep=True)

    def whole(self, name: str) -> bytes:
        url = f"{self.location}/{name}"
        return _retried(url, lambda: self._files.cat_file(url))

    def array(self, name: str, sound: Callable[[bytes | memoryview], bool]) -> npt.NDArray | None:
        entry = f"{self.location}/{name}"
        for _ in range(2):
            data = self._cache.read(entry, lambda: self.whole(name))
            if sound(data):
                return np.load(io.BytesIO(data), allow_pickle=False)
            self._cache.discard(entry)
        return None

    def _part(self, name: str, begin: int, end: int) -> bytes:
        url = f"{self.location}/{name}"
        data = _retried(url, lambda: self._files.cat_file(url, start=begin, end=end))
        if len(data) > end - begin:
            raise _WholeFile
        return data


class _WholeFile(Exception):
    """The server was asked for a part, and sent all."""


@functools.cache
def _options(url: str) -> dict[str, object]:
    if not url.startswith(("http://", "https://")):
        return {}
    import aiohttp  # what fsspec reads HTTP with; half a second that no other folder needs to pay

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    return {"client_kwargs": {"timeout": timeout}}


def _retried(url: str, ask: Callable[[], _T]) -> _T:
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.5, 1))
        try:
            return ask()
        except _FOR_GOOD as error:
            raise _unreadable(url, error) from error
        except Exception as error:  # each kind of server has its own ways to fail
            failure = error
    raise ValueError(
        f"{url}: cannot be read, tried {_ATTEMPTS} times: {_said(failure)}; is the server up?"
    ) from failure


def _said(error: Exception) -> str:
    """An error's own words, without what a library wraps around the system's."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unreadable(where: str, error: Exception) -> ValueError:
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{where}: missing; build the shards again, or give the folder they are in")
    return ValueError(f"{where}: cannot be read: {error}")
