"""Documents in their canonical form, many at a time: a look-up over code points, and white space made regular.

texts ─▶ code points ─▶ table ─▶ characters that vanish or become several ─▶ runs of white space ─▶ texts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import ranges
from data_tools.text.sentences import code_points

_CODES = 0x110000
_END = np.uint32(_CODES)  # stands behind every text
_OTHER = _CODES + 1  # and above: not one character, but a row of the table of strings
_SPACE, _LINE_FEED = np.uint32(ord(" ")), np.uint32(ord("\n"))
_CHUNK_CHARACTERS = 1 << 17


class Folding:
    """A table of single characters and what becomes of them, made for whole documents."""

    def __init__(self, table: Mapping[str, str]) -> None:
        """``table`` has the characters that do not stand for themselves, with what they become. White space is to
        become " ", and nothing else that is left may be less, but for line feeds."""
        self._folded = np.arange(_CODES, dtype=np.uint32)
        others = [(character, folded) for character, folded in table.items() if len(folded) != 1]
        for character, folded in table.items():
            self._folded[ord(character)] = ord(folded) if len(folded) == 1 else 0
        self._folded[[ord(character) for character, _ in others]] = _OTHER + np.arange(len(others))
        self._folded[_LINE_FEED] = _LINE_FEED
        self._lengths = np.array([len(folded) for _, folded in others], np.int64)
        self._characters = code_points("".join(folded for _, folded in others))

    def paragraphs(self, texts: Sequence[str]) -> list[str]:
        """The texts folded, their paragraphs apart: none empty, one line feed between two, single spaces within."""
        return [text for chunk in chunks(texts, _CHUNK_CHARACTERS) for text in self._chunk(chunk)]

    def _chunk(self, texts: list[str]) -> list[str]:
        codes = self._folded.take(code_points("\n".join(texts) + "\n"))
        codes[np.cumsum([len(text) + 1 for text in texts]) - 1] = _END
        codes = self._written_out(codes)
        codes = codes[_regular(codes)]
        ends = np.flatnonzero(codes == _END)
        codes[ends] = _LINE_FEED
        together = codes.tobytes().decode("utf-32-le")
        begins = np.concatenate(([0], ends[:-1] + 1))
        return [together[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]

    def _written_out(self, codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """The codes with the strings that rows stand for."""
        places = np.flatnonzero(codes >= _OTHER)
        if not len(places):
            return codes
        rows = codes.take(places).astype(np.int64) - _OTHER
        lengths = self._lengths.take(rows)
        copies = np.ones(len(codes), np.int64)
        copies[places] = lengths
        written = np.repeat(codes, copies)
        begins = np.cumsum(self._lengths) - self._lengths
        written[written >= _OTHER] = self._characters.take(ranges(begins.take(rows), lengths))
        return written


def chunks(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """The texts in groups of at least so many characters, but for the last: few calls, on arrays that stay in the
    processor's cache."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= characters:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _regular(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which codes are kept so that a run of white space becomes its first character, and none where a text begins or
    ends; that character becomes a line feed, in place, if there is one in the run."""
    kept = np.ones(len(codes), bool)
    places = np.flatnonzero(codes <= _SPACE)
    if not len(places):
        return kept
    heads = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    first, after = places[heads], places[np.append(heads[1:], len(places)) - 1] + 1
    line_feed = np.logical_or.reduceat(codes[places] == _LINE_FEED, heads)
    codes[first] = np.where(line_feed, _LINE_FEED, _SPACE)
    kept[places] = False
    kept[first] = (codes[first - 1] != _END) & (codes[after] != _END)
    return kept
