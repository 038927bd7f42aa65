"""Lines of any length out of a stream, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO


def lines(stream: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Every line with its number, from 1, and its end; None for one of more than ``limit`` bytes."""
    number = 0
    while line := stream.readline(limit + 2):
        number += 1
        if len(line) <= limit or len(line.rstrip(b"\r\n")) <= limit:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)
        yield number, None


def whole(stream: BinaryIO, limit: int) -> bytes | None:
    """All of a stream; None if it is more than ``limit`` bytes."""
    data = stream.read(limit + 1)
    return data if len(data) <= limit else None
