"""The files of a corpus: found in folders, by globs and at URLs, in an order that is always the same."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

_CHUNK = 1 << 20
_UNREADABLE = hashlib.sha256(b"unreadable").hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, here or at any URL that fsspec opens.

    Attributes:
        url: its path or URL.
        sha256: of its content, in hex, where that is known: then nothing else is read from it without an error.
    """

    url: str
    sha256: str = ""

    @property
    def name(self) -> str:
        """The last part of where it is, as text that can be written whatever bytes a name is made of."""
        return _name(self.url)

    @property
    def source(self) -> str:
        """What its documents are from, where they do not say: its name up to the first dot."""
        return self.name.split(".")[0] or self.name

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, from the first.

        Raises OSError, also for what is no regular file: a pipe would wait for ever. Raises ValueError, at the end,
        where the bytes are not those of ``sha256``.
        """
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(self._opened())
            except OSError as error:
                if self.sha256 in ("", _UNREADABLE):
                    raise
                raise ValueError(f"{self.url}: cannot be opened any more: {error}; run again") from error
            if not self.sha256:
                yield stream
                return
            hashed = _Hashed(stream)
            try:
                yield io.BufferedReader(hashed, _CHUNK)
            except Exception:  # what changed may well break
                self._check(hashed)
                raise
            self._check(hashed)

    def _opened(self) -> contextlib.AbstractContextManager[BinaryIO]:
        if _is_url(self.url):
            opened: contextlib.AbstractContextManager[BinaryIO] = fsspec.open(self.url, "rb")
            return opened
        if not stat.S_ISREG(os.stat(self.url).st_mode):
            raise OSError("not a regular file")
        return open(self.url, "rb")

    def _check(self, hashed: _Hashed) -> None:
        try:
            found = hashed.sha256()
        except OSError:
            found = _UNREADABLE
        if found != self.sha256:
            raise ValueError(f"{self.url}: changed while it was read; run again")

    def __str__(self) -> str:
        return self.url


@functools.lru_cache  # asked for by every document of a file
def _name(url: str) -> str:
    url = url.partition("::")[0] if _is_url(url) else url  # of a chain, what is innermost
    name = url.rstrip("/").rpartition("/")[2] or url
    return name.encode(errors="surrogateescape").decode(errors="replace")


class _Hashed(io.RawIOBase):
    """A stream that is hashed as it is read: what is passed over is read for it at the end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._end = self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = self._stream.seek(offset, whence)
        return self._place

    def readinto(self, buffer: Any) -> int:
        part = self._stream.read(len(buffer))
        buffer[: len(part)] = part
        if self._place == self._end:
            self._digest.update(part)
            self._end += len(part)
        self._place += len(part)
        return len(part)

    def sha256(self) -> str:
        """Of the whole stream, in hex."""
        if self._place != self._end:
            self.seek(self._end)
        while part := self._stream.read(_CHUNK):
            self._digest.update(part)
        return self._digest.hexdigest()


def find_files(inputs: Sequence[str | Path]) -> list[File]:
    """Every file among the inputs, once, in order: files as given, globs and folders searched and sorted.

    What a file holds is not looked at. Raises ValueError that names what does not exist or holds nothing.
    """
    found: dict[str, None] = {}
    for given in map(str, inputs):
        urls = list(_remote(given) if _is_url(given) else _local(given))
        if not urls:
            raise ValueError(f"{given}: no file in this folder")
        found.update(dict.fromkeys(urls))
    if not found:
        raise ValueError("no input: give files, folders, globs or URLs of text")
    return [File(url) for url in found]


def check_outside(option: str, path: Path, inputs: Sequence[str | Path]) -> None:
    """Raises ValueError where what is to be written lies in a folder of the input: it would be read next time."""
    for given in map(str, inputs):
        for folder in [] if _is_url(given) else [given, *glob.glob(given)]:
            if os.path.isdir(folder) and path.resolve().is_relative_to(os.path.realpath(folder)):
                raise ValueError(f"{option} {path} is within {folder}; give a place outside")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file whose SHA-256 is known, with its size in bytes. One that cannot be opened counts as a content of its own;
    its reader says what is wrong."""

    file: File
    bytes: int


def inspect(files: Sequence[File], threads: int = 1) -> list[Found]:
    """Every file with its size and hash, read by several threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(_inspected, files))


def _inspected(file: File) -> Found:
    content = hashlib.sha256()
    size = 0
    try:
        with file.open() as stream:
            while chunk := stream.read(_CHUNK):
                content.update(chunk)
                size += len(chunk)
    except OSError:
        return Found(File(file.url, _UNREADABLE), 0)
    return Found(File(file.url, content.hexdigest()), size)


def fingerprint(files: Iterable[Found]) -> str:
    """SHA-256 over the names and contents of the files, in order, in hex: what a result depends on, wherever they
    lie."""
    digest = hashlib.sha256()
    for found in files:
        digest.update(bytes.fromhex(found.file.sha256))
        digest.update(found.file.name.encode())
    return digest.hexdigest()


def _is_url(given: str) -> bool:
    return "://" in given


def _local(given: str) -> Iterator[str]:
    if os.path.isdir(given):
        yield from _walk(given, set())
    elif os.path.exists(given):
        yield given
    elif glob.has_magic(given):
        matched = sorted(glob.glob(given, recursive=True))
        if not matched:
            raise ValueError(f"{given}: nothing matches")
        for path in matched:
            if not ("**" in given and os.path.isdir(path)):  # ** names the files of a folder too
                yield from _local(path)
    else:
        raise ValueError(f"{given}: no such file or folder")


def _walk(folder: str, seen: set[str]) -> Iterator[str]:
    """Every file below a folder, by name. Links are followed, a folder that was seen before is not entered again."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed: {error}") from error
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            yield from _walk(path, seen)
        else:
            yield path


def _remote(given: str) -> Iterator[str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(given)
        if filesystem.exists(path) and not filesystem.isdir(path):
            paths = [path]
        elif glob.has_magic(path):
            paths = sorted(one for one in filesystem.glob(path) if not filesystem.isdir(one))
        else:
            paths = sorted(filesystem.find(path))
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{given}: cannot be opened: {error}") from error
    if not paths:
        raise ValueError(f"{given}: nothing there")
    chained = "::" in given
    yield from ([given] if chained and len(paths) == 1 else map(filesystem.unstrip_protocol, paths))
