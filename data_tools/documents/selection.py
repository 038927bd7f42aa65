"""Documents clean and in canonical form, many at a time, and why some of them are not kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.filters import FilterConfig, rejections
from data_tools.text.interface import TextTokenizer
from data_tools.text.pieces import pieces

_PIECE_CHARACTERS = 1 << 22


def cleaned(
    texts: Sequence[str], tokenizer: TextTokenizer, cleaning: CleanConfig, filters: FilterConfig
) -> tuple[list[str], list[str | None]]:
    """The canonical text of each document once clean, and why it is not kept, or None."""
    canonical = canonical_texts(texts, tokenizer, cleaning)
    return canonical, rejections(canonical, filters)


def canonical_texts(texts: Sequence[str], tokenizer: TextTokenizer, cleaning: CleanConfig) -> list[str]:
    """The canonical text of each raw text once clean, its paragraphs apart by line feeds; a giant is cleaned a few
    million characters at a time."""
    cut = [list(pieces(text, _PIECE_CHARACTERS)) for text in texts]
    canonical = iter(tokenizer.canonical_documents([clean(piece, cleaning) for of_text in cut for piece in of_text]))
    return ["\n".join(filter(None, islice(canonical, len(of_text)))) for of_text in cut]
