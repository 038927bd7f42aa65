"""Lines and errors in a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from litebert.train.journal import errors, kept, record


def test_what_is_printed_is_kept_and_still_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for session in ("one", "二"):
        with kept(tmp_path):
            print(f"step of session {session}", flush=True)
    print("of no session")
    lines = ["step of session one", "step of session 二"]
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines() == lines
    assert capsys.readouterr().out.splitlines() == [*lines, "of no session"]


def test_errors_are_told_in_the_order_of_time(tmp_path: Path) -> None:
    record(tmp_path, 3, "gpu07", "ValueError('a\nb')", "Traceback:\n  line\n\n  line\n")
    record(tmp_path, 0, "", "RuntimeError('peer')", "Traceback")
    record(tmp_path, 3, "gpu08", "OSError()", "")
    assert [line.partition(" ")[2] for line in errors(tmp_path)] == [
        "rank 3 on gpu07: ValueError('a b')",
        "rank 0: RuntimeError('peer')",
        "rank 3 on gpu08: OSError()",
    ]
    assert "    Traceback:\n      line\n" in (tmp_path / "errors" / "rank-00003.log").read_text()


def test_a_folder_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    record(tmp_path / "gone", 0, "", "ValueError()", "")
    assert errors(tmp_path / "gone") == []
