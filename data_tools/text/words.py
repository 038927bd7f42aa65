"""Where Chinese words begin, for many texts at once, by jieba's algorithm in Rust (rjieba) and users' dictionaries."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import rjieba

from data_tools.text.interface import Encoded

_LARGEST = 2**31
Entry = tuple[str, int | None]


@dataclasses.dataclass(frozen=True)
class WordsConfig:
    """What a word is.

    Attributes:
        segmenter: what finds words; with none, every piece of the tokenizer is a word by itself.
        dictionaries: files of words to know besides, in jieba's form: on each line a word, after a space how often it
            occurs (else as often as it takes to be found whole), and after another its part of speech, which has no
            bearing here.
    """

    segmenter: Literal["rjieba", "none"] = "rjieba"
    dictionaries: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.segmenter == "none" and self.dictionaries:
            raise ValueError(f"dictionaries {self.dictionaries} have no effect where segmenter is none: leave them out")


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """What finds words: plain data, so that a worker process can be sent it.

    Attributes:
        name: of it and its version, with the SHA-256 of each dictionary: everything that words depend on.
        finds_words: whether it does, or leaves every piece a word.
        entries: of the dictionaries, word and frequency.
    """

    name: str
    finds_words: bool
    entries: tuple[Entry, ...] = ()

    @classmethod
    def load(cls, config: WordsConfig, canonical: Callable[[str], str]) -> Segmenter:
        """The segmenter of a config.

        Args:
            canonical: brings a word into the form of the texts (``TextTokenizer.canonical``).

        Raises:
            ValueError: a dictionary cannot be read, then the line is named, or is empty.
        """
        if config.segmenter == "none":
            return cls("none", finds_words=False)
        name = f"rjieba {importlib.metadata.version('rjieba')}"
        entries: list[Entry] = []
        for path in map(Path, config.dictionaries):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise ValueError(f"words.dictionaries: {path} cannot be read: {error.strerror}") from None
            words = list(_entries(data, path, canonical))
            if not words:
                raise ValueError(f"words.dictionaries: {path} has no words; leave it out")
            entries += words
            name += f" + {path.name} {hashlib.sha256(data).hexdigest()}"
        return cls(name, finds_words=True, entries=tuple(entries))

    def word_starts(self, texts: Sequence[str], encoded: Encoded) -> npt.NDArray[np.bool_]:
        """Whether a word begins at each piece of the texts, bool [pieces].

        A piece that straddles words, or begins inside one, is of the word before: from one start to the next is the
        smallest run of pieces that covers whole words.
        """
        if not self.finds_words:
            return np.ones(len(encoded.ids), bool)
        cut = _jieba(self.entries).cut
        # A text's words are let go of before the next one's are made: they take the same, cached memory.
        lengths = np.concatenate([np.zeros(0, np.int64), *(_lengths(cut(text)) for text in texts)])
        starts = np.zeros(int(lengths.sum()), bool)
        starts[np.cumsum(lengths) - lengths] = True
        return encoded.begins(starts)


def _lengths(words: list[str]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, words), np.int64, len(words))


@functools.lru_cache(maxsize=1)
def _jieba(entries: tuple[Entry, ...]) -> rjieba.Jieba:
    jieba = rjieba.Jieba()
    for word, frequency in entries:
        jieba.add_word(word, frequency, None)
    return jieba


def _entries(data: bytes, path: Path, canonical: Callable[[str], str]) -> Iterator[Entry]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            raise ValueError(f"{path}, line {number}: not UTF-8; convert the file") from None
        if not fields:
            continue
        word = canonical(fields[0])
        frequency = int(fields[1]) if len(fields) > 1 and fields[1].isdecimal() else 0
        if not word or " " in word:
            raise ValueError(f"{path}, line {number}: {fields[0]!r} is no word once the text is clean; remove the line")
        if len(fields) > 3 or (len(fields) > 1 and not 0 < frequency < _LARGEST):
            raise ValueError(
                f"{path}, line {number}: {line.decode().strip()!r} is not a word, or a word and how often it occurs"
            )
        yield word, frequency or None
