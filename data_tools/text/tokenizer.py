"""A SentencePiece tokenizer over canonical text, many texts at a time, with the place of every piece.

Two properties carry everything downstream, and loading a tokenizer checks both:

* Scores are multiples of 2**-6. Sums over a chunk are then exact in float32 and in float64, so SentencePiece
  (which sums in one) and Hugging Face (in the other) see the same ties and break them alike.
* No piece joins the end of a sentence to a Chinese character, or has a space but at its beginning. A long text can
  be cut there and encoded in chunks with the result of encoding it whole.

With them, the ids of any stretch of a text between two piece boundaries are the ids of that stretch alone:
a segment of a sample is a slice of its document's ids, and tokenizing the segment's text gives the slice.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_proto

from data_tools.text import normalization
from data_tools.text.interface import SPECIAL_TOKENS, Encoded, Vocabulary
from data_tools.text.sentences import code_points

PAD, UNK, CLS, SEP, MASK = range(5)
MODEL_FILE = "tokenizer.model"
SPACE = "▁"
SCORE_QUANTUM = 2.0**-6
CHUNK_CHARACTERS = 8192  # a chunk's score stays below 2**24 quanta, the integers that float32 holds
LOWEST_SCORE = -20.0
_TAIL = 256
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_CODES = 0x110000


class Tokenizer:
    """A trained SentencePiece model with litebert's special tokens (ids 0 to 4, ``SPECIAL_TOKENS``)."""

    KIND: ClassVar[str] = "sentencepiece"
    FILE: ClassVar[str] = MODEL_FILE

    def __init__(self, model: bytes, source: str) -> None:
        """``source`` names the model in errors. Raises ValueError for a model that breaks the properties above."""
        proto = model_proto.ModelProto()
        try:
            proto.ParseFromString(model)
        except Exception as error:  # protobuf's DecodeError has no public home that is stable
            raise ValueError(f"{source} is not a SentencePiece model; train one: data_tools tokenizer") from error
        pieces = [piece.piece for piece in proto.pieces]
        self.model = model
        self.pieces: tuple[str, ...] = tuple(pieces)
        self.scores: tuple[float, ...] = tuple(piece.score for piece in proto.pieces)
        self.charsmap: bytes = proto.normalizer_spec.precompiled_charsmap
        _check(self.pieces, self.scores, source)
        proto.normalizer_spec.precompiled_charsmap = b""  # canonical text stands already for itself
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        self._piece_lengths = np.array([len(piece) for piece in pieces], np.int64)
        self._unknown = np.ones(_CODES, bool)
        self._unknown[[ord(piece) for piece in pieces if len(piece) == 1]] = False
        self._unknown[ord(" ")] = self._unknown[ord(SPACE)]
        ends = [mark for mark in "。！？" if not self._unknown[ord(mark)]]
        self._safe_cut = re.compile(f"(?<=[{''.join(ends)}])(?=[{_HAN}])|(?= )" if ends else "(?= )")

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer in a folder. Raises ValueError if there is none."""
        path = Path(folder) / MODEL_FILE
        if not path.is_file():
            raise ValueError(f"no tokenizer at {path}; make one with: python -m data_tools tokenizer --output {folder}")
        return cls(path.read_bytes(), str(path))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.pieces)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """Its special ids, and those of text."""
        return Vocabulary.specials_first(len(self.pieces))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model, in hex."""
        return hashlib.sha256(self.model).hexdigest()

    def canonical(self, text: str) -> str:
        """Text as ``normalization.canonical`` has it."""
        return normalization.canonical(text)

    def canonical_paragraphs(self, text: str) -> str:
        """Text as ``normalization.canonical_paragraphs`` has it."""
        return normalization.canonical_paragraphs(text)

    def canonical_documents(self, texts: Sequence[str]) -> list[str]:
        """Texts as ``normalization.canonical_documents`` has them."""
        return normalization.canonical_documents(texts)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids and places of the pieces of canonical texts, each at most a part (``parts``) long."""
        chunks, owners = [], []
        for number, text in enumerate(texts):
            for chunk in self._chunks(text):
                chunks.append(chunk)
                owners.append(number)
        arrays = self._processor.encode(chunks, out_type="numpy", num_threads=1)
        counts = np.fromiter(map(len, arrays), np.int64, len(arrays))
        ids = np.concatenate([np.zeros(0, np.int32), *arrays])
        widths = self._piece_lengths.take(ids)
        unknown = np.flatnonzero(ids == UNK)
        if len(unknown):
            has_unknown = np.unique(np.searchsorted(np.cumsum(counts), unknown, side="right"))
            widths[unknown] = self._unknown_runs([chunks[number] for number in has_unknown])
        lengths = np.bincount(np.array(owners, np.int64), weights=counts, minlength=len(texts)).astype(np.int64)
        ends = np.cumsum(widths)
        return Encoded(ids, ends - widths, ends, lengths)

    def parts(self, text: str) -> list[str]:
        """The text cut so that no part has a stretch of over CHUNK_CHARACTERS without a safe cut: nearly always
        the text itself. Parts are documents of their own: no sample spans two."""
        if self._chunks(text):
            return [text]
        parts, current = [], ""
        for stretch in self._safe_cut.split(text):
            current += stretch if len(stretch) <= CHUNK_CHARACTERS else ""
            if len(stretch) > CHUNK_CHARACTERS:
                pieces = [stretch[i : i + CHUNK_CHARACTERS] for i in range(0, len(stretch), CHUNK_CHARACTERS)]
                parts += [part for part in (current, *pieces) if part]
                current = ""
        return [*parts, current] if current else parts

    def _chunks(self, text: str) -> list[str]:
        """The text cut where it is safe, as seldom as can be; nothing where a stretch has no safe cut for too long."""
        chunks, begin = [], 0
        while len(text) - begin > CHUNK_CHARACTERS:
            cut = self._last_cut(text, begin, begin + CHUNK_CHARACTERS)
            if cut == begin:
                return []
            chunks.append(text[begin:cut])
            begin = cut
        return [*chunks, text[begin:]]

    def _last_cut(self, text: str, begin: int, end: int) -> int:
        """The last safe cut after ``begin`` and up to ``end``, or ``begin``."""
        # Nearly always there is one near the end.
        for start in (max(begin, end - _TAIL), begin):
            cuts = [match.start() for match in self._safe_cut.finditer(text, start + 1, end + 1)]
            if cuts:
                return cuts[-1]
        return begin

    def _unknown_runs(self, chunks: Sequence[str]) -> npt.NDArray[np.int64]:
        """Characters of each unknown piece, in order: SentencePiece makes one piece of a run of characters that
        are no pieces themselves."""
        places = np.flatnonzero(self._unknown.take(code_points("".join(chunks))))
        chunk = np.searchsorted(np.cumsum([*map(len, chunks)]), places, side="right")
        goes_on = (np.diff(places) == 1) & (np.diff(chunk) == 0)
        begins = np.flatnonzero(np.concatenate(([True], ~goes_on)))
        return np.diff(begins, append=len(places))


def _check(pieces: Sequence[str], scores: Sequence[float], source: str) -> None:
    """Raise one ValueError with everything that keeps a model from being ours."""
    problems = []
    if tuple(pieces[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        problems.append(f"its first pieces are {list(pieces[:5])}, not {list(SPECIAL_TOKENS)}")
    if any(score % SCORE_QUANTUM or score < LOWEST_SCORE for score in scores):
        problems.append(f"its scores are not multiples of {SCORE_QUANTUM} above {LOWEST_SCORE}")
    joins = re.compile(f"[。！？][{_HAN}]")
    if straddling := [piece for piece in pieces if joins.search(piece)]:
        problems.append(f"its pieces {straddling[:3]} join two sentences")
    if spaced := [piece for piece in pieces if SPACE in piece[1:]]:
        problems.append(f"its pieces {spaced[:3]} have a space inside")
    characters = set(pieces)
    if homeless := [piece for piece in pieces[len(SPECIAL_TOKENS) :] if not characters.issuperset(piece)]:
        problems.append(f"its pieces {homeless[:3]} hold characters that are no pieces themselves")
    if problems:
        raise ValueError(
            f"{source} is not a litebert tokenizer: {'; '.join(problems)}. Train one: data_tools tokenizer"
        )
