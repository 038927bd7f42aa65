"""Compressed files, known by their first bytes: gz, bz2, xz, zst; in one frame or many, and whole or refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from backports import zstd

HEAD = 1 << 16
SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd")
DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, zstd.ZstdError)
_CHUNK = 1 << 17
_MAX_LAYERS = 3


def uncompressed(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first 64 KiB of what a stream holds once uncompressed, and all of it, as a stream of its own.

    Reading raises one of DAMAGE where the compressed bytes are broken or end too soon.
    """
    for _ in range(_MAX_LAYERS + 1):
        head, stream = peeked(stream)
        opened = next((opened for magic, opened in _OPENED if magic.match(head)), None)
        if opened is None:
            return head, stream
        stream = io.BufferedReader(opened(stream), 1 << 18)
    raise OSError(f"compressed more than {_MAX_LAYERS} times over")


def peeked(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first 64 KiB of a stream, and a stream of all of it."""
    parts = []
    left = HEAD
    while left and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    head = b"".join(parts)
    return head, io.BufferedReader(_Prefixed(head, stream), 1 << 18)


class _Prefixed(io.RawIOBase):
    """Some bytes, and the rest of a stream after them."""

    def __init__(self, prefix: bytes, stream: BinaryIO) -> None:
        self._prefix = memoryview(prefix)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part: bytes | memoryview = self._prefix[: len(buffer)]
        self._prefix = self._prefix[len(part) :]
        if not part:
            part = self._stream.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


class _Frames(io.RawIOBase):
    """What one compressed frame after another holds.

    The standard library's files end without a word at a second frame that is damaged; this one raises. Zeros that pad
    a frame are allowed, as xz has them.
    """

    def __init__(self, stream: BinaryIO, decoder: Callable[[], Any]) -> None:
        self._stream = stream
        self._new = decoder
        self._decoder: Any = None
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decoder is None:
                data = self._next_frame()
                if not data:
                    return 0
                self._decoder = self._new()
            else:
                data = self._stream.read(_CHUNK) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not data:
                    raise EOFError("it ends in the middle of a compressed frame")
            part = self._decoder.decompress(data, len(buffer))
            if self._decoder.eof:
                self._left, self._decoder = self._decoder.unused_data, None
            if part:
                buffer[: len(part)] = part
                return len(part)

    def _next_frame(self) -> bytes:
        left = self._left.lstrip(b"\0")
        while not left:
            chunk = self._stream.read(_CHUNK)
            if not chunk:
                return b""
            left = chunk.lstrip(b"\0")
        return left


def _gzip(stream: BinaryIO) -> Any:
    return gzip.GzipFile(fileobj=stream, mode="rb")


_OPENED: list[tuple[re.Pattern[bytes], Callable[[BinaryIO], Any]]] = [
    (re.compile(rb"\x1f\x8b"), _gzip),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), lambda stream: _Frames(stream, bz2.BZ2Decompressor)),
    (re.compile(rb"\xfd7zXZ\x00"), lambda stream: _Frames(stream, lzma.LZMADecompressor)),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), lambda stream: _Frames(stream, zstd.ZstdDecompressor)),
]
