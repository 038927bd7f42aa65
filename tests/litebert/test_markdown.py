"""Tables in Markdown have their heads, marks and rows."""

from __future__ import annotations

from litebert.markdown import markdown


def test_a_table_has_heads_marks_and_rows() -> None:
    rows = [["", "MB", "form"], ["a", "1", "x"], ["b", "20", ""]]
    assert markdown(rows, right=[1]).splitlines() == [
        "|  | MB | form |",
        "| --- | ---: | --- |",
        "| a | 1 | x |",
        "| b | 20 |  |",
    ]
    assert markdown(rows[:1]).splitlines()[1:] == ["| --- | --- | --- |"]
