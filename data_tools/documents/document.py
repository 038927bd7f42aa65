"""What a corpus is made of, and what is left of the parts that did not make it."""

from __future__ import annotations

import dataclasses

NOT_TEXT = "not text"
NO_TEXT = "no text"
TOO_LONG = "too long"
BROKEN_BYTES = "broken bytes"
UNREADABLE = "unreadable"


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus.

    Attributes:
        id: what names it, for people; need not be unique.
        source: which part of the corpus it is from.
        text: paragraphs apart by line feeds.
        broken_bytes: of its encoding, each run of them a U+FFFD in the text.
    """

    id: str
    source: str
    text: str
    broken_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """A record or a file that did not become a document.

    Attributes:
        file: where it is.
        place: where in the file; empty for the file as a whole.
        reason: one of the constants above, to count by.
        detail: what is wrong with this one.
        broken_bytes: of its encoding.
    """

    file: str
    place: str
    reason: str
    detail: str = ""
    broken_bytes: int = 0

    def __str__(self) -> str:
        where = f"{self.file}, {self.place}" if self.place else self.file
        return f"{where}: {self.detail or self.reason}"
