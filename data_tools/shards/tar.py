"""Tars of blocks: written to be the same bytes every time, read at a block's offset."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_RECORD = 512


class ShardWriter:
    """Appends blocks to a tar. Made by ``written``."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._tar = archive
        self.offsets: list[int] = []

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append a block: member ``suffix`` becomes the file ``key.suffix``."""
        self.offsets.append(self._tar.offset)
        for suffix, data in members.items():
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size, info.mode = len(data), 0o444
            self._tar.addfile(info, io.BytesIO(data))

    @property
    def end(self) -> int:
        """Where the last block ends, in bytes."""
        return self._tar.offset


@contextlib.contextmanager
def written(path: Path) -> Iterator[ShardWriter]:
    """A new tar that holds nothing but blocks: no times, no owners, members in the order given; on disk at the end."""
    with path.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            yield ShardWriter(archive)
        stream.flush()
        os.fsync(stream.fileno())


def members(block: bytes) -> dict[str, memoryview]:
    """The files of one block by suffix, as views. Raises ValueError where the bytes are not those of a block."""
    view, files, offset = memoryview(block), {}, 0
    while offset < len(block):
        header = block[offset : offset + _RECORD]
        name, _, _ = header[:100].partition(b"\0")
        try:
            size = int(header[124:135], 8)
            _, _, suffix = name.decode("ascii").partition(".")
        except ValueError as error:
            raise ValueError(f"no tar header at byte {offset} of the block") from error
        if offset + _RECORD + size > len(block):
            raise ValueError(f"{name.decode()} is cut off")
        files[suffix] = view[offset + _RECORD : offset + _RECORD + size]
        offset += _RECORD + -(-size // _RECORD) * _RECORD
    return files


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
