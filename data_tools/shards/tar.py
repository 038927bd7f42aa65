"""Tars of blocks: written to be the same bytes every time, read at a block's offset."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_RECORD = tarfile.BLOCKSIZE
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 156)  # of a header


class ShardWriter:
    """Appends blocks to a tar, and sums them up while they are in the processor's cache. Made by ``written``.

    Attributes:
        offsets: in bytes, where each block begins, and where the last one ends.
        checksums: CRC-32 of each block.
        bytes: of the whole tar; like ``sha256``, once it is written.
        sha256: of the whole tar, in hex.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._digest = stream, hashlib.sha256()
        self.offsets, self.checksums = [0], list[int]()

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append a block: member ``suffix`` becomes the file ``key.suffix``."""
        pieces: list[bytes] = []
        for suffix, data in members.items():
            pieces += _header(f"{key}.{suffix}", len(data)), data, bytes(-len(data) % _RECORD)
        block = b"".join(pieces)
        self._append(block)
        self.offsets.append(self.offsets[-1] + len(block))
        self.checksums.append(zlib.crc32(block))

    def _append(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)

    def finish(self) -> None:
        """Append what ends a tar."""
        end = self.offsets[-1] + 2 * _RECORD
        self._append(bytes(2 * _RECORD + -end % tarfile.RECORDSIZE))
        self.bytes, self.sha256 = self._stream.tell(), self._digest.hexdigest()


def _plain_header() -> bytes:
    info = tarfile.TarInfo()
    info.mode = 0o444
    return info.tobuf(tarfile.USTAR_FORMAT)


_PLAIN = _plain_header()


def _header(name: str, size: int) -> bytes:
    """The header that ``tarfile`` gives a file; for a file as small as these, it takes longer than all else."""
    header = bytearray(_PLAIN)
    header[: len(name)] = name.encode("ascii")
    header[_SIZE] = b"%011o" % size
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


@contextlib.contextmanager
def written(path: Path) -> Iterator[ShardWriter]:
    """A new tar that holds nothing but blocks: no times, no owners, members in the order given; on disk at the end."""
    with path.open("wb") as stream:
        writer = ShardWriter(stream)
        yield writer
        writer.finish()
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
