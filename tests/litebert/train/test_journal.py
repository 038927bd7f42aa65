"""Lines and errors in a run's folder."""

from __future__ import annotations

import os
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


def test_a_log_begins_with_what_was_said_before_it_and_ends_with_the_error(tmp_path: Path) -> None:
    with kept(tmp_path, "ranks  2"):
        print("step 1", end="\n")  # not flushed
        record(tmp_path, 1, "gpu08", "RuntimeError('echo')", "Traceback")
        record(tmp_path, 0, "gpu07", "ValueError('a\nb')", "Traceback")
    first, second, last = (tmp_path / "log.txt").read_text().splitlines()
    assert (first, second) == ("ranks  2", "step 1") and last.endswith("+00:00 rank 0 on gpu07: ValueError('a b')")


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


def test_errors_of_any_bytes_are_told_and_what_is_no_text_is_named(tmp_path: Path) -> None:
    record(tmp_path, 0, "", f"ValueError({os.fsdecode(b'caf' + bytes([0xE9]))})", "")
    (line,) = errors(tmp_path)
    assert line.endswith(r"rank 0: ValueError(caf\udce9)")
    (tmp_path / "errors" / "rank-00007.log").write_bytes(b"\x00\xff\n")
    with pytest.raises(ValueError, match=r"rank-00007\.log: not the errors of a rank \(.*\): remove the file"):
        errors(tmp_path)


def test_a_folder_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    record(tmp_path / "gone", 0, "", "ValueError()", "")
    assert errors(tmp_path / "gone") == []
