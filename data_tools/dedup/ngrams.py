"""Every n-gram of many texts as a 64-bit number.

The units of an n-gram are Chinese characters (kana and hangul too), and whole words and numbers of other scripts: five
Latin letters say next to nothing. Marks, spaces and line ends are left out, for there copies of one text differ, as the
peers do it (datatrove's ``simplify_text``). Words are told apart by 31 bits, n-grams by 64.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from data_tools.shards.keyed_rng import U64
from data_tools.text.sentences import code_points

_PLANE = 0x10000
_IDEOGRAPHS = 0x2E80  # here the scripts begin that do not part their words
_MARK, _CHARACTER, _LETTER = range(3)
_SLICE = 1 << 18  # characters at a time: the arrays of a slice stay in the cache
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FINAL = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT, _HALF = np.uint64(33), np.uint64(32)
_WORD = np.uint64(1 << 31)


@dataclasses.dataclass(frozen=True)
class Units:
    """The units of texts, end to end.

    Attributes:
        values: the code point of a character, a hash of a word with its highest bit set; uint32 [units].
        ends: where each text ends, int64 [texts].
    """

    values: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.int64]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Units of each text, int64 [texts]."""
        return np.diff(self.ends, prepend=0)

    def take(self, kept: npt.NDArray[np.bool_]) -> Units:
        """Some of the texts; ``kept`` is bool [texts]."""
        lengths = self.lengths()
        return Units(self.values[np.repeat(kept, lengths)], np.cumsum(lengths[kept]))

    def ngrams(self, size: int) -> Iterator[tuple[U64, npt.NDArray[np.int64]]]:
        """The n-grams of every text, in order, a slice at a time: their numbers, and the text that each is of."""
        for begin in range(0, len(self.values) - size + 1, _SLICE):
            hashes = ngrams(self.values[begin : begin + _SLICE + size - 1], size)
            first, last = np.searchsorted(self.ends, [begin, begin + len(hashes) - 1], side="right")
            edges = np.clip(self.ends[first : last + 1], begin, begin + len(hashes))
            owners = np.repeat(np.arange(first, last + 1), np.diff(edges, prepend=begin))
            whole = np.arange(begin + size, begin + size + len(hashes)) <= self.ends[owners]
            yield hashes[whole], owners[whole]


def units(texts: Sequence[str]) -> Units:
    """The units of canonical texts. A word across a multiple of 262,144 characters of a text counts as two."""
    lengths = np.zeros(len(texts), np.int64)
    found = [np.zeros(0, np.uint32)]
    for numbers, pieces in _slices(texts):
        values, counts = _units(pieces)
        found.append(values)
        np.add.at(lengths, numbers, counts)
    return Units(np.concatenate(found), np.cumsum(lengths))


def _slices(texts: Sequence[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Pieces of texts that are a slice together, and the number of each one's text."""
    numbers: list[int] = []
    pieces: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        for begin in range(0, len(text), _SLICE):
            piece = text[begin : begin + _SLICE]
            if size + len(piece) > _SLICE:
                yield numbers, pieces
                numbers, pieces, size = [], [], 0
            numbers.append(number)
            pieces.append(piece)
            size += len(piece)
    if pieces:
        yield numbers, pieces


def _units(pieces: list[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The units of pieces of text, and how many each has."""
    codes = code_points("".join(pieces))
    ends = np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)))
    kinds = _kinds()[np.minimum(codes, _PLANE - 1)]
    letter = kinds == _LETTER
    follows = np.zeros(len(codes), bool)
    follows[1:] = letter[1:] & letter[:-1]
    follows[ends[:-1]] = False
    begins = (kinds != _MARK) & ~follows
    places = np.flatnonzero(letter)
    if len(places):
        first = np.flatnonzero(begins[places])
        numbers = np.arange(len(places)) - np.repeat(first, np.diff(first, append=len(places)))
        terms = mixed(codes[places] | numbers.astype(np.uint64) << _HALF)
        codes = codes.copy()
        codes[places[first]] = np.add.reduceat(terms, first) >> _HALF | _WORD
    return codes[begins], np.diff(np.cumsum(begins)[ends - 1], prepend=0)


def ngrams(values: npt.NDArray[np.uint32], size: int) -> U64:
    """The number of every run of ``size`` values: uint64 [values - size + 1], uniform."""
    hashes = values.astype(np.uint64)
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _SHIFT
    span = 1
    while span < size:
        # A run of twice the span is its two halves, told apart by their order; the last two may overlap.
        step = min(span, size - span)
        longer = hashes[:-step] * _MULTIPLIER
        longer += hashes[step:]
        longer ^= longer >> _SHIFT
        hashes, span = longer, span + step
    return mixed(hashes)


def mixed(values: U64) -> U64:
    """A bijection of 64-bit numbers of which every bit depends on all bits: MurmurHash3's finalizer (Appleby)."""
    values = values ^ (values >> _SHIFT)
    for multiplier in _FINAL:
        values *= multiplier
        values ^= values >> _SHIFT
    return values


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of each code point; the last entry stands for all beyond the basic plane."""
    written = np.array([chr(code).isalnum() for code in range(_PLANE)])
    written[-1] = True
    return np.where(written, np.where(np.arange(_PLANE) < _IDEOGRAPHS, _LETTER, _CHARACTER), _MARK).astype(np.uint8)
