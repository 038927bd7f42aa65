"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def markdown(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """A table, a row a line.

    Args:
        rows: heads first.
        right: columns that are set flush right.
    """
    heads, *others = rows
    marks = ["---:" if place in right else "---" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *others))
