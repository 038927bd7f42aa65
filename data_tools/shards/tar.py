"""Tars of blocks: written to be the same bytes every time, read at a block's offset."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

_RECORD = 512


class ShardWriter:
    """Writes blocks into a tar that holds nothing but them: no times, no owners, keys in the order given."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("wb")  # noqa: SIM115 - closed by __exit__
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
        self.offsets: list[int] = []

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

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
