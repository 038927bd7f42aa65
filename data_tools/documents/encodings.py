"""Whatever encoding a file is in, its readers see UTF-8, in which a byte 0xFF stands where the file was broken.

An encoding is found by trial: UTF-8 that decodes strictly is UTF-8; else the candidate wins under which the largest
share of what is not ASCII is characters that Chinese is really written with. Statistical detectors need more text than
the short files of a corpus have; the GB and Big5 standards themselves list the common characters first, and a wrong
decoding lands on rare ones.
"""

from __future__ import annotations

import codecs
import functools
import io
import re
from typing import Any, BinaryIO

_BOMS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
]
_CANDIDATES = ("utf-8", "gb18030", "big5hkscs", "utf-16-le", "utf-16-be")
_SAMPLE = 1 << 14
_SURE = 0.6  # share of common characters; right guesses are above 0.9, wrong ones below 0.5
_CHUNK = 1 << 18
_NOT_ASCII = re.compile(rb"[^\x01-\x7f]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff" * (error.end - error.start), error.end


codecs.register_error("data_tools.mark", _mark)


def decode(data: bytes) -> tuple[str, int]:
    """UTF-8 as text, and how many bytes of it were broken; each run of them is one U+FFFD."""
    try:
        return data.decode("utf-8"), 0
    except UnicodeDecodeError:
        marked = data.decode("utf-8", "data_tools.mark")
        return re.sub("\udcff+", "\ufffd", marked), marked.count("\udcff")


def decode_any(data: bytes) -> tuple[str, int]:
    """Bytes of an unknown encoding as text, and how many of them were broken."""
    codec, mark = detect(data)
    if codec == "utf-8":
        return decode(data[mark:])
    marked = data[mark:].decode(codec, "data_tools.mark")
    return re.sub("\udcff+", "\ufffd", marked), marked.count("\udcff")


def detect(data: bytes) -> tuple[str, int]:
    """The encoding of a file by its first bytes, and the length of its byte order mark."""
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return codec, len(mark)
    return _by_trial(data, _CANDIDATES), 0


def to_utf8(head: bytes, stream: BinaryIO) -> BinaryIO:
    """A stream of a file's bytes as UTF-8; ``head`` is how it begins."""
    codec, mark = detect(head)
    stream.read(mark)
    if codec == "utf-8" and (mark or _NOT_ASCII.search(head)):
        return stream
    return io.BufferedReader(_Transcoded(stream, None if codec == "utf-8" else codec), 1 << 18)


def _by_trial(data: bytes, candidates: tuple[str, ...]) -> str:
    first = _NOT_ASCII.search(data)
    if first is None:
        return "utf-8"
    begin = first.start() // 2 * 2 if "utf-16-le" in candidates else first.start()
    sample = data[begin : begin + _SAMPLE]
    if wide := _wide(sample, candidates):
        return wide
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data[first.start() : first.start() + _SAMPLE])
        return "utf-8"
    except UnicodeDecodeError:
        pass
    score, best = max(((_share(sample, codec), -order) for order, codec in enumerate(candidates)))
    return candidates[-best] if score >= _SURE else "utf-8"


def _wide(sample: bytes, candidates: tuple[str, ...]) -> str | None:
    """UTF-16 by its zeros, which are the upper halves of ASCII and so all on one side."""
    if "utf-16-le" not in candidates or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if min(even, odd) * 20 > max(even, odd) or max(even, odd) < 2 or len(sample) < 4:
        return None
    codec = "utf-16-le" if odd > even else "utf-16-be"
    return codec if _share(sample, codec) >= _SURE else None


def _share(sample: bytes, codec: str) -> float:
    """How much of a sample, decoded, is characters of Chinese text; broken bytes count against it."""
    text = codecs.getincrementaldecoder(codec)("data_tools.mark").decode(sample)
    foreign = [character for character in text if not "\t" <= character <= "~"]
    if not foreign:
        return float(bool(text))
    common = _common()
    return (sum(character in common for character in foreign) - foreign.count("\udcff")) / len(foreign)


@functools.cache
def _common() -> frozenset[str]:
    """The marks and first levels of GB 2312 (3755 characters) and Big5 (5401)."""
    codes = [(lead, trail, "gb2312") for lead in [0xA1, 0xA3, *range(0xB0, 0xD8)] for trail in range(0xA1, 0xFF)]
    codes += [(lead, trail, "big5") for lead in [0xA1, *range(0xA4, 0xC7)] for trail in range(0x40, 0xFF)]
    return frozenset("".join(bytes(pair).decode(codec, "ignore") for *pair, codec in codes)) - set(map(chr, range(128)))


class _Transcoded(io.RawIOBase):
    """A stream as UTF-8; an encoding of None is decided by the first chunk that is not ASCII."""

    def __init__(self, stream: BinaryIO, codec: str | None) -> None:
        self._stream = stream
        self._decoder = None if codec is None else codecs.getincrementaldecoder(codec)("data_tools.mark")
        self._ready = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            chunk = self._stream.read(_CHUNK)
            self._ended = not chunk
            self._ready = memoryview(self._as_utf8(chunk))
        part = self._ready[: len(buffer)]
        self._ready = self._ready[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def _as_utf8(self, chunk: bytes) -> bytes:
        if self._decoder is None:
            if not _NOT_ASCII.search(chunk):
                return chunk
            codec = _by_trial(chunk, _CANDIDATES[:3])  # what began as ASCII is not UTF-16
            self._decoder = codecs.getincrementaldecoder(codec)("data_tools.mark")
        return self._decoder.decode(chunk, not chunk).encode("utf-8", "surrogateescape")
