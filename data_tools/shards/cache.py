"""A folder of bounded size that keeps what was fetched from afar, shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

_LOCKS = 64
_SHARE_KEPT = 7 / 8  # of the limit, when it is reached
_SIZE = "size"
_NAME = 40  # characters of an entry's file name
_ABANDONED = 3600.0  # seconds after which nobody is still writing a file


def cache_folder() -> Path:
    """Where what can be had again is kept: $LITEBERT_CACHE, else litebert/ in the user's cache folder."""
    if folder := os.environ.get("LITEBERT_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "litebert"


class Cache:
    """Entries by name, the ones used least recently dropped first.

    An entry appears whole or not at all, and is fetched by one process while the others wait for it. A cache that
    cannot be written is still read; a warning says so once.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        """``limit``: bytes of all entries together. A folder that is not there is made."""
        self._folder, self._limit = Path(folder), limit
        self._warned = False
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)

    def read(
        self, name: str, fetch: Callable[[], bytes], begin: int = 0, end: int | None = None, keep: bool = False
    ) -> bytes:
        """Bytes [begin, end) of an entry, fetched where it is not there.

        Raises ValueError where the entry is larger than the cache, or where it cannot be kept and ``keep`` says that
        it must be, because it is to be read part by part.
        """
        path = self._path(name)
        if (found := _part(path, begin, end)) is not None:
            return found
        with self._locked(str(int(path.name[:8], 16) % _LOCKS)):
            if (found := _part(path, begin, end)) is not None:
                return found
            data = fetch()
            if len(data) > self._limit * _SHARE_KEPT:
                raise ValueError(
                    f"{name}: its {len(data) / 1e6:,.1f} MB are too many for a cache of {self._limit / 1e6:,.1f} MB:"
                    " raise data.cache_gb"
                )
            try:
                self._keep(path, data)
            except OSError as error:
                if keep:
                    raise ValueError(f"{self._folder}: {name} cannot be kept: {error}; set data.cache") from error
                self._warn(error)
        return data[begin:end]

    def discard(self, name: str) -> None:
        """Forget an entry, so that it is fetched anew."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self._folder / hashlib.blake2b(name.encode(), digest_size=_NAME // 2).hexdigest()

    def _keep(self, path: Path, data: bytes) -> None:
        with self._locked(_SIZE):
            count = self._folder / _SIZE
            known = count.read_text() if count.exists() else ""
            total = int(known) if known.isdigit() else self._shrunk(self._limit)
            if total + len(data) > self._limit:
                total = self._shrunk(int(self._limit * _SHARE_KEPT) - len(data))
            count.write_text(str(total + len(data)))
        descriptor, aside = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        try:
            with open(descriptor, "wb") as stream:
                stream.write(data)
            os.replace(aside, path)
        except OSError:
            os.unlink(aside)
            raise

    def _shrunk(self, size: int) -> int:
        """Bytes of all entries, once the oldest have gone that are beyond a size."""
        entries = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):  # gone while others were looked at
                if len(entry.name) == _NAME:
                    entries.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
                elif entry.name.endswith(".tmp") and entry.stat().st_mtime < time.time() - _ABANDONED:
                    os.unlink(entry.path)
        total = sum(size for _, size, _ in entries)
        for _, bytes_, path in sorted(entries):
            if total <= size:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= bytes_
        return total

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            lock = (self._folder / f"{name}.lock").open("w")
        except OSError:  # nothing can be written, so there is nothing to agree on
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            warnings.warn(f"the cache {self._folder} keeps nothing new: {error}; set data.cache", stacklevel=2)
        self._warned = True


def _part(path: Path, begin: int, end: int | None) -> bytes | None:
    """Bytes [begin, end) of a file, which now counts as used; None where it cannot be read."""
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(begin)
            data = stream.read() if end is None else stream.read(end - begin)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data
