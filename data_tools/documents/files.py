"""The files of a corpus: found in folders, by globs and at URLs, in an order that is always the same."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import fsspec


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """One file, here or at any URL that fsspec opens."""

    url: str

    @property
    def name(self) -> str:
        """The last part of where it is, as text that can be written whatever bytes a name is made of."""
        url = self.url.partition("::")[0] if _is_url(self.url) else self.url  # of a chain, what is innermost
        name = url.rstrip("/").rpartition("/")[2] or url
        return name.encode(errors="surrogateescape").decode(errors="replace")

    @property
    def source(self) -> str:
        """What its documents are from, where they do not say: its name up to the first dot."""
        return self.name.split(".")[0] or self.name

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, from the first. Raises OSError, also for what is no regular file: a pipe would wait for ever."""
        if not _is_url(self.url) and not stat.S_ISREG(os.stat(self.url).st_mode):
            raise OSError("not a regular file")
        with fsspec.open(self.url, "rb") if _is_url(self.url) else open(self.url, "rb") as stream:
            yield stream

    def __str__(self) -> str:
        return self.url


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


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file, with its size in bytes and the SHA-256 of its content. One that cannot be opened counts as a content of
    its own; its reader says what is wrong."""

    file: File
    bytes: int
    sha256: str


def inspect(files: Sequence[File], threads: int = 1) -> list[Found]:
    """Every file with its size and hash, read by several threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(_inspected, files))


def _inspected(file: File) -> Found:
    content = hashlib.sha256()
    size = 0
    try:
        with file.open() as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
                size += len(chunk)
    except OSError:
        return Found(file, 0, hashlib.sha256(b"unreadable").hexdigest())
    return Found(file, size, content.hexdigest())


def fingerprint(files: Iterable[Found]) -> str:
    """SHA-256 over the names and contents of the files, in order, in hex: what a result depends on, wherever they
    lie."""
    digest = hashlib.sha256()
    for found in files:
        digest.update(bytes.fromhex(found.sha256))
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
