"""What the rest of the project knows of a tokenizer, whichever kind it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Texts as ids, end to end.

    Attributes:
        ids: int32 [pieces].
        starts: int64 [pieces], where each piece begins, in characters of the texts end to end. Pieces of one
            character that is written as several share their place.
        ends: int64 [pieces], where it ends. Characters between two pieces are of neither: they have no id.
        lengths: int64 [texts], pieces of each text.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def begins(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether something begins at each piece: at its first character, or at one between it and the piece before.

        Args:
            flags: [characters of all texts], whether it begins at the character.
        """
        if not len(self.ids):
            return np.zeros(0, bool)
        since = np.concatenate(([0], self.ends[:-1]))
        found = flags.take(self.starts)
        found &= since <= self.starts
        gaps = np.flatnonzero(since < self.starts)
        if len(gaps):
            first, last = since.take(gaps), self.starts.take(gaps)
            before = np.cumsum(flags, dtype=np.int64)
            found[gaps] |= before.take(last) > before.take(first) - flags.take(first)
        return found


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The ids that mean something by themselves.

    Attributes:
        size: number of ids.
        pad, unk, cls, sep, mask: the special ones.
        replacements: int32, the ids that text can have, from which a masked token's random stand-in is drawn.
    """

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    replacements: npt.NDArray[np.int32]

    @classmethod
    def specials_first(cls, size: int) -> Vocabulary:
        """Ids of which the first five are the special ones, in the order of SPECIAL_TOKENS."""
        return cls(size, 0, 1, 2, 3, 4, np.arange(len(SPECIAL_TOKENS), size, dtype=np.int32))


class TextTokenizer(Protocol):
    """Canonical texts to ids, many at a time, with the place of every piece.

    A text's canonical form is what sentences and words are found in and what ``encode`` takes; raw text has the
    ids of its canonical form in the folder that Hugging Face opens.

    Attributes:
        KIND: its name in manifests.
        FILE: the file that it is kept in, and by which a folder's kind is told.
        model: the bytes of that file, which say everything.
        pieces: by id.
    """

    KIND: ClassVar[str]
    FILE: ClassVar[str]
    model: bytes
    pieces: tuple[str, ...]

    def __init__(self, model: bytes, source: str) -> None:
        """``source`` names the model in errors. Raises ValueError where it is not a model of this kind."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its special ids, and those of text."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that its ids depend on, in hex."""

    def canonical(self, text: str) -> str:
        """Text in its canonical form, on one line. Idempotent."""

    def canonical_paragraphs(self, text: str) -> str:
        """Text in its canonical form with its paragraphs apart: none empty, one line feed between two. With the
        line feeds read as spaces it is ``canonical`` text of the same length."""

    def canonical_documents(self, texts: Sequence[str]) -> list[str]:
        """``canonical_paragraphs`` of many texts at once."""

    def parts(self, text: str) -> list[str]:
        """Canonical text cut into documents of their own, where it is one that ``encode`` could not take whole."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids and places of the pieces of canonical texts, each at most a part (``parts``) long."""
