"""Giant texts cut into pieces that fit into memory many times over."""

from __future__ import annotations

from collections.abc import Iterator


def pieces(text: str, limit: int) -> Iterator[str]:
    """A text in pieces of at most so many characters: the text itself if it is short.

    It is cut at a line feed, which is in no piece; where there is none, after a full stop or a space; else anywhere.
    """
    begin = 0
    while len(text) - begin > limit:
        end = begin + limit
        if (cut := text.rfind("\n", begin + 1, end)) > 0:
            yield text[begin:cut]
            begin = cut + 1
        else:
            cut = max(text.rfind("。", begin, end), text.rfind(" ", begin, end)) + 1 or end
            yield text[begin:cut]
            begin = cut
    yield text[begin:] if begin else text
