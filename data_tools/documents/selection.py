"""Documents clean and in canonical form, many at a time, and why some of them are not kept."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.filters import FilterConfig, rejection
from data_tools.text.interface import TextTokenizer
from data_tools.text.sentences import code_points


def cleaned(
    texts: Sequence[str], tokenizer: TextTokenizer, cleaning: CleanConfig, filters: FilterConfig
) -> tuple[list[str], list[str | None]]:
    """The canonical text of each document once clean, and why it is not kept, or None."""
    canonical = tokenizer.canonical_documents([clean(text, cleaning) for text in texts])
    return canonical, [rejection(text, code_points(text), filters) for text in canonical]
