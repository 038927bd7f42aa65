"""The canonical form of text: what the tokenizer sees, in training and in use.

One table over single code points says everything: compatibility forms (NFKC) and capitals fold, white space
becomes one space, control, zero-width and other unwritten characters vanish. Chinese punctuation keeps its
full width, against NFKC, since "，" and "," are not the same mark to a Chinese reader.

The exported Hugging Face tokenizer carries the same table (``rules``), so raw text reaches the same ids there.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence

from data_tools.text.folding import Folding

CHINESE_PUNCTUATION = "！（），：；？～…﹏"
_SPACES = re.compile(" {2,}")
_SPACE_CONTROLS = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85"
_VARIATION_SELECTORS = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_SELECTOR_BLOCKS = {code >> 8 for code in _VARIATION_SELECTORS}
_FOLDING_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"})
_BLOCK = 256


def _folded(character: str) -> str:
    """One code point's canonical form, before the fold is repeated to its fixed point."""
    category = unicodedata.category(character)
    if character in _SPACE_CONTROLS or category in ("Zs", "Zl", "Zp"):
        return " "
    if category in ("Cc", "Cf", "Cs") or ord(character) in _VARIATION_SELECTORS:
        return ""
    if character in CHINESE_PUNCTUATION:
        return character
    folded = unicodedata.normalize("NFKC", character)
    # "´" would become a space and a combining accent: a written mark must not turn into white space.
    return character if folded.startswith(" ") else folded.lower()


@functools.cache
def rules() -> dict[str, str]:
    """The table: every code point that does not stand for itself, with what it becomes (often nothing)."""
    table = {}
    for start in range(0, sys.maxunicode + 1, _BLOCK):
        block = "".join(map(chr, range(start, start + _BLOCK)))
        if _stands(block):
            continue
        for character in block:
            before, folded = character, _folded(character)
            while folded != before:
                before, folded = folded, "".join(map(_folded, folded))
            if folded != character:
                table[character] = folded
    return table


def _stands(block: str) -> bool:
    """Whether no character of the block can fold: most of Unicode, told a block at a time."""
    return (
        _FOLDING_CATEGORIES.isdisjoint(map(unicodedata.category, block))
        and ord(block[0]) >> 8 not in _SELECTOR_BLOCKS
        and block.lower() == block
        and unicodedata.is_normalized("NFKC", block)
    )


@functools.cache
def _folding() -> Folding:
    return Folding(rules())


@functools.cache
def _translation() -> dict[int, str]:
    return {ord(character): folded for character, folded in rules().items()}


def canonical(text: str) -> str:
    """Text in its canonical form: composed (NFC), folded by the table, white space as single spaces.

    Idempotent: ``canonical(canonical(text)) == canonical(text)``.
    """
    # Composed before, so that the table meets "Á" and not "A" with an accent; and after, as folding may part them.
    return _SPACES.sub(" ", _composed(_composed(text).translate(_translation())))


def canonical_paragraphs(text: str) -> str:
    """A document's canonical form with its paragraphs still apart: none empty, one line feed between two.

    With the line feeds read as spaces it is ``canonical`` text of the same length.
    """
    return canonical_documents([text])[0]


def canonical_documents(texts: Sequence[str]) -> list[str]:
    """``canonical_paragraphs`` of many documents, which takes a fraction of the time."""
    return list(map(_composed, _folding().paragraphs(list(map(_composed, texts)))))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
