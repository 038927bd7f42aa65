"""BERT's uncased WordPiece as a table look-up: ids equal to ``transformers.BertTokenizer``'s, for many texts at once.

Nearly all of Chinese text is characters that are a word by themselves (Chinese characters, punctuation): their ids
are one gather from a table over code points. What is left are runs of other characters (Latin, digits, kana), and
a run's pieces depend on nothing beside it: a cache holds those of every run met lately, so that Python cuts it once.

    codes ─▶ table ─┬─▶ ids of single characters ──────────────────┬─▶ ids, starts, ends
                    └─▶ runs ─▶ cache (a new run: WordPiece) ──────┘

The tables are not written here: ``tokenizers``, which ``transformers`` runs, is asked once what it makes of every
code point. A run with a character that is not simply one letter (it vanishes, is written as several, may change places
with its neighbour, is of no known kind) is left to ``tokenizers`` itself.

Special tokens have no spelling: "[MASK]" in a document is a bracket, a word and a bracket, as it is for a
``BertTokenizer`` with ``split_special_tokens=True``. A document cannot forge the ids that structure samples.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import unicodedata
from array import array
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from data_tools.samples.columns import ranges
from data_tools.text.folding import Folding, chunks
from data_tools.text.interface import SPECIAL_TOKENS, Encoded, Vocabulary
from data_tools.text.sentences import code_points

CONTINUING = "##"
LONGEST_WORD = 100  # in characters; a longer one is unknown
CHUNK_CHARACTERS = 1 << 17  # of the texts looked up together: their arrays stay in the processor's cache
CACHE_CHARACTERS = 2_000_000  # of the runs that are kept
_CODES = 0x110000
_TABLE_CODES = 0x30000  # the planes of living scripts, symbols and Chinese; what lies above is asked for as it comes
_SPACE, _LETTER, _ODD = -1, -2, -3  # what stands in the table for a code point that has no id by itself
_MARK = "\U0001f600"  # parts the questions to ``tokenizers``: no character is written with it
_PREFIX = -1
_DROPPED = "\u200b"  # a character that vanishes
_NOT_TEXT = re.compile(r"\[unused\d+\]|\[[A-Z]+\]|<[A-Z]>")


class _Characters(NamedTuple):
    """What BERT's basic tokenization makes of code points.

    Attributes:
        kinds: int32 [code points], _SPACE, _LETTER, _ODD, or the code point of the word that it is by itself.
        letters: uint32 [code points], what each _LETTER is written as, lower-case and without accent.
        vanishing: characters that cleaning removes.
        spaces: characters that it reads as a space.
    """

    kinds: npt.NDArray[np.int32]
    letters: npt.NDArray[np.uint32]
    vanishing: str
    spaces: str


@functools.cache
def _characters() -> _Characters:
    kinds = np.full(_CODES, _ODD, np.int32)
    letters = np.zeros(_CODES, np.uint32)
    characters = [chr(c) for c in range(_TABLE_CODES) if not 0xD800 <= c < 0xE000 and chr(c) != _MARK]
    written = _answers(_normalizer(), characters)
    cleaned = _answers(_normalizer(handle_chinese_chars=False, strip_accents=False, lowercase=False), characters)
    single = {one for one in written if len(one) == 1 and one != " "}
    alone = _words_alone(sorted(single))
    for character, one in zip(characters, written, strict=True):
        code = ord(character)
        if one == " ":
            kinds[code] = _SPACE
        elif len(one) == 3 and one[0] == one[2] == " ":  # Chinese: cleaning puts spaces around it
            kinds[code] = ord(one[1])
        elif one in alone:
            kinds[code] = ord(one)
        elif one in single and unicodedata.category(character) != "Cn" and not _moves(character) and not _moves(one):
            kinds[code] = _LETTER
            letters[code] = ord(one)
    return _Characters(
        kinds,
        letters,
        vanishing="".join(character for character, one in zip(characters, cleaned, strict=True) if not one),
        spaces="".join(character for character, one in zip(characters, cleaned, strict=True) if one == " "),
    )


def _normalizer(
    handle_chinese_chars: bool = True, strip_accents: bool | None = None, lowercase: bool = True
) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(True, handle_chinese_chars, strip_accents, lowercase)


def _answers(normalizer: normalizers.Normalizer, characters: Sequence[str]) -> list[str]:
    """What becomes of each character, alone."""
    return normalizer.normalize_str(_MARK + _MARK.join(characters) + _MARK).split(_MARK)[1:-1]


def _words_alone(characters: Sequence[str]) -> set[str]:
    """Those of the characters that are a word even between letters: punctuation."""
    words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str("a" + "a".join(characters) + "a")
    return {word for word, (begin, _) in words if len(word) == 1 and begin % 2}


def _moves(character: str) -> bool:
    """Whether canonical ordering may put it before or behind its neighbour."""
    return unicodedata.combining(character) != 0


class _Pieces(NamedTuple):
    """Pieces of runs end to end; where each begins and ends in characters of its run."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


class _Runs(dict[str, int]):
    """Every run met lately, by its text, with its pieces; a run not met yet gets the next number, and waits."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all runs."""
        super().clear()
        self.waiting: list[str] = []
        self.characters = 0
        self.ids, self.starts, self.ends = array("i"), array("i"), array("i")
        self.counts, self.offsets = array("q"), array("q")

    def __missing__(self, run: str) -> int:
        self[run] = number = len(self)
        self.waiting.append(run)
        return number

    def add(self, pieces: _Pieces, counts: list[int]) -> None:
        """The pieces of the runs that waited, in their order, and how many are each run's."""
        self.offsets.extend(itertools.accumulate(counts[:-1], initial=len(self.ids)))
        self.counts.extend(counts)
        self.ids.extend(pieces.ids)
        self.starts.extend(pieces.starts)
        self.ends.extend(pieces.ends)


class WordPiece:
    """Google's uncased vocabulary for BERT (``vocab.txt``), or any with its special tokens."""

    KIND: ClassVar[str] = "wordpiece"
    FILE: ClassVar[str] = "vocab.txt"

    def __init__(self, model: bytes, source: str) -> None:
        """``source`` names the file in errors. Raises ValueError where it is not a vocabulary."""
        self.model = model
        self.pieces = _pieces(model, source)
        ids = {piece: number for number, piece in enumerate(self.pieces)}
        pad, unk, cls, sep, mask = (ids[token] for token in SPECIAL_TOKENS)
        of_text = np.array([number for piece, number in ids.items() if not _NOT_TEXT.fullmatch(piece)], np.int32)
        self.vocabulary = Vocabulary(len(ids), pad, unk, cls, sep, mask, of_text)
        self._first = _with_prefixes(ids)
        self._rest = _with_prefixes(
            {piece[len(CONTINUING) :]: number for piece, number in ids.items() if piece.startswith(CONTINUING)}
        )
        kinds = _characters().kinds
        id_of_code = np.full(_CODES, self.vocabulary.unk, np.int32)
        single = {ord(piece): number for piece, number in ids.items() if len(piece) == 1}
        id_of_code[list(single)] = list(single.values())
        self._table = np.where(kinds >= 0, id_of_code[np.maximum(kinds, 0)], kinds)
        self._reference = bert_tokenizer(self)
        self._runs = _Runs()

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.pieces)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the kind and the vocabulary, in hex."""
        return hashlib.sha256(self.KIND.encode() + b"\0" + "\n".join(self.pieces).encode()).hexdigest()

    def canonical(self, text: str) -> str:
        """Text without what BERT's cleaning removes, white space as single spaces; all that is written stays as it
        is written. Its ids are those of the text."""
        vanishing, space = _patterns()
        return space.sub(" ", vanishing.sub("", text))

    def canonical_paragraphs(self, text: str) -> str:
        """The same with the paragraphs apart: none empty, one line feed between two."""
        return self.canonical_documents([text])[0]

    def canonical_documents(self, texts: Sequence[str]) -> list[str]:
        """``canonical_paragraphs`` of many documents, which takes a fraction of the time."""
        return _folding().paragraphs(texts)

    def parts(self, text: str) -> list[str]:
        """The text: none is too long."""
        return [text]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids and places of the pieces of texts; text that is not canonical has BERT's ids too. A lone surrogate,
        which is no text, vanishes."""
        encoded = [self._looked_up(chunk) for chunk in chunks(texts, CHUNK_CHARACTERS)]
        if not encoded:
            nothing = np.zeros(0, np.int64)
            return Encoded(nothing.astype(np.int32), nothing, nothing, nothing)
        before = 0
        for chunk, characters in encoded:
            chunk.starts[:] += before
            chunk.ends[:] += before
            before += characters
        columns = ("ids", "starts", "ends", "lengths")
        return Encoded(*(np.concatenate([getattr(chunk, name) for chunk, _ in encoded]) for name in columns))

    def _looked_up(self, texts: Sequence[str]) -> tuple[Encoded, int]:
        """Texts encoded together, and how many characters they have."""
        codes = code_points("\n".join(texts))  # no run goes on over a line feed
        found = self._table.take(codes)
        in_run = found < _SPACE
        head = found != _SPACE
        head[1:] &= ~(in_run[1:] & in_run[:-1])
        heads = np.flatnonzero(head)
        ids = found.take(heads)
        run_heads = ids < _SPACE
        numbers = self._numbers(codes, in_run)
        runs = self._runs
        counts_of_run = np.asarray(runs.counts).take(numbers)
        counts = np.ones(len(heads), np.int64)
        counts[run_heads] = counts_of_run
        ids, starts = np.repeat(ids, counts), np.repeat(heads, counts)
        ends = starts + 1
        places = np.flatnonzero(ids < _SPACE)
        pieces = ranges(np.asarray(runs.offsets).take(numbers), counts_of_run)
        ids[places] = np.asarray(runs.ids).take(pieces)
        ends[places] = starts[places] + np.asarray(runs.ends).take(pieces)
        starts[places] += np.asarray(runs.starts).take(pieces)
        if runs.characters > CACHE_CHARACTERS:
            runs.clear()
        text_ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
        lengths = np.diff(np.searchsorted(starts, text_ends), prepend=0)
        line_feeds = np.repeat(np.arange(len(texts)), lengths)
        starts -= line_feeds
        ends -= line_feeds
        return Encoded(ids, starts, ends, lengths), int(text_ends[-1]) - len(texts)

    def _numbers(self, codes: npt.NDArray[np.uint32], in_run: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The number of each run, in their order; new ones are cut into pieces."""
        kept = in_run.copy()
        kept[1:] |= in_run[:-1]
        characters = np.where(in_run, codes, ord("\n"))[kept].astype(np.uint32)
        characters[characters >> 11 == 0xD800 >> 11] = ord(_DROPPED)
        runs = characters.tobytes().decode("utf-32-le").split("\n")
        if not runs[-1]:
            runs.pop()
        numbers = np.fromiter(map(self._runs.__getitem__, runs), np.int64, len(runs))
        if self._runs.waiting:
            self._cut_waiting()
        return numbers

    def _cut_waiting(self) -> None:
        runs = self._runs
        waiting, runs.waiting = runs.waiting, []
        together = "\n".join(waiting)
        runs.characters += len(together)
        codes = code_points(together)
        letters = _characters().letters[codes]
        letters[codes == ord("\n")] = ord("\n")
        words = letters.tobytes().decode("utf-32-le").split("\n")
        odd = iter(
            self._reference.encode_batch([run for run, word in zip(waiting, words, strict=True) if "\0" in word])
        )
        pieces = _Pieces([], [], [])
        counts = []
        for word in words:
            before = len(pieces.ids)
            if "\0" in word:
                encoding = next(odd)
                pieces.ids.extend(encoding.ids)
                pieces.starts.extend(begin for begin, _ in encoding.offsets)
                pieces.ends.extend(end for _, end in encoding.offsets)
            else:
                self._cut(word, pieces)
            counts.append(len(pieces.ids) - before)
        runs.add(pieces, counts)

    def _cut(self, word: str, pieces: _Pieces) -> None:
        """Add the pieces of a word, the longest that fits first."""
        ids, starts, ends = pieces
        size, before = len(word), len(ids)
        begin = 0 if size <= LONGEST_WORD else size
        known = self._first
        while begin < size:
            longest, last = _PREFIX, begin
            for end in range(begin + 1, size + 1):
                found = known.get(word[begin:end])
                if found is None:
                    break
                if found != _PREFIX:
                    longest, last = found, end
            if last == begin:
                break
            ids.append(longest)
            starts.append(begin)
            ends.append(last)
            begin, known = last, self._rest
        if begin < size or size > LONGEST_WORD:
            del ids[before:], starts[before:], ends[before:]
            ids.append(self.vocabulary.unk)
            starts.append(0)
            ends.append(size)


def bert_tokenizer(tokenizer: WordPiece) -> tokenizers.Tokenizer:
    """BERT's own pipeline over the vocabulary, without its special tokens."""
    ids = {piece: number for number, piece in enumerate(tokenizer.pieces)}
    unk = SPECIAL_TOKENS[1]
    fast = tokenizers.Tokenizer(
        models.WordPiece(
            ids, unk_token=unk, max_input_chars_per_word=LONGEST_WORD, continuing_subword_prefix=CONTINUING
        )
    )
    fast.normalizer = _normalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece(CONTINUING)
    return fast


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What vanishes, and white space."""
    characters = _characters()
    return (
        re.compile(f"[{re.escape(characters.vanishing)}\ud800-\udfff]+"),
        re.compile(f"[{re.escape(characters.spaces)}]+"),
    )


@functools.cache
def _folding() -> Folding:
    characters = _characters()
    surrogates = map(chr, range(0xD800, 0xE000))
    return Folding(dict.fromkeys((*characters.vanishing, *surrogates), "") | dict.fromkeys(characters.spaces, " "))


def _with_prefixes(ids: dict[str, int]) -> dict[str, int]:
    """The pieces, and every beginning of one that is none itself as _PREFIX: a search for the longest piece can end
    at the first beginning that is not here."""
    return {piece[:end]: _PREFIX for piece in ids for end in range(1, len(piece))} | ids


def _pieces(model: bytes, source: str) -> tuple[str, ...]:
    """The pieces of a vocabulary file, one a line."""
    try:
        text = model.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not a vocabulary: it is not UTF-8 text; give BERT's vocab.txt") from error
    pieces = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    problems = []
    if missing := [token for token in SPECIAL_TOKENS if token not in set(pieces)]:
        problems.append(f"it has no line {' or '.join(missing)}")
    if len(set(pieces)) < len(pieces):
        seen: set[str] = set()
        twice = next(piece for piece in pieces if piece in seen or seen.add(piece))  # type: ignore[func-returns-value]
        problems.append(f"it has the piece {twice!r} twice")
    if problems:
        raise ValueError(f"{source} is not a vocabulary of BERT's kind: {'; '.join(problems)}; give BERT's vocab.txt")
    return tuple(pieces)
