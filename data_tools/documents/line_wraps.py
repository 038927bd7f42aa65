"""Lines that a page of constant width broke become paragraphs again."""

from __future__ import annotations

import bisect
from statistics import median

MINIMUM_LINES, NARROWEST, WIDEST = 5, 44, 180
_SLACK = 5  # columns that a line may stay under the width: a mark or a word that did not fit any more
_SHARE, _MID_SENTENCE, _OVER = 0.4, 0.5, 0.05
_ENDS = frozenset("。！？；…!?;.：:”」』）)】》>")
_INDENTS = (" ", "\t", "\u3000")


def joined(first: str, second: str) -> str:
    """Two halves of a text across a line end: Chinese has no space there, and neither has a number cut in two."""
    left, right = first[-1:], second[:1]
    spaced = left.isascii() and right.isascii() and not (left.isdigit() and right.isdigit())
    return f"{first} {second}" if spaced and left not in " (" else first + second


def join_wrapped_lines(text: str) -> str:
    """The text with the line ends of a constant width taken out; any other text comes back as it is.

    A text is wrapped if the lines within a few columns of its greatest width are many, and most of them end in the
    middle of a sentence. Columns count as on a terminal: two for a Chinese character.
    """
    # Most texts leave early: too few lines, or on average longer or shorter ones than a page has.
    count = text.count("\n") + 1
    if count < MINIMUM_LINES or not _SHARE * NARROWEST // 2 <= len(text) / count <= WIDEST // 2:
        return text
    lines = text.split("\n")
    lengths = sorted(map(len, filter(None, lines)))
    longest = lengths[-1 - len(lengths) // 10] if lengths else 0
    if not NARROWEST // 2 <= longest <= WIDEST:
        return text
    least = 0.75 * longest
    if len(lengths) - bisect.bisect_right(lengths, least) < _SHARE * len(lengths):
        return text
    if _mid_sentence([line for line in lines if len(line) > least]) < _MID_SENTENCE:
        return text
    lines = [line.rstrip() for line in lines]
    widths = [len(line.encode("gb18030", "replace")) if line else 0 for line in lines]
    width = _page_width(lines, widths)
    if width is None:
        return text
    paragraphs: list[str] = []
    continues = False
    for line, columns in zip(lines, widths, strict=True):
        if continues and line and not line.startswith(_INDENTS):
            paragraphs[-1] = joined(paragraphs[-1], line)
        else:
            paragraphs.append(line)
        continues = width - _SLACK <= columns <= width
    return "\n".join(paragraphs)


def _page_width(lines: list[str], widths: list[int]) -> int | None:
    """The width at which the lines were broken, or None."""
    written = sorted(width for width in widths if width)
    # A formula or a URL may stick out; the page's width is where the crowd ends.
    width = written[-1 - int(_OVER * len(written))]
    near_top = [columns for columns in written if width - _SLACK <= columns]
    width = max(width, int(median(near_top)))
    while any(columns == width + 1 for columns in near_top):
        width += 1
    full = [line for line, columns in zip(lines, widths, strict=True) if width - _SLACK <= columns <= width]
    if not NARROWEST <= width <= WIDEST or len(full) < max(MINIMUM_LINES - 1, _SHARE * len(written)):
        return None
    return width if _mid_sentence(full) >= _MID_SENTENCE else None


def _mid_sentence(lines: list[str]) -> float:
    """Share of the lines that do not end where a sentence may."""
    # Rows of figures are as even as wrapped lines, and are none.
    ends = (line.rstrip()[-1:] for line in lines)
    return sum(not (end in _ENDS or end.isdigit()) for end in ends) / len(lines) if lines else 0.0
