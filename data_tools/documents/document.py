"""What a corpus is made of."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus.

    Attributes:
        id: what names it, for people; need not be unique.
        source: which part of the corpus it is from.
        text: paragraphs apart by line feeds.
    """

    id: str
    source: str
    text: str
