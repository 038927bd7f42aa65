"""Notes of jobs, as slurm/job.sh writes them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from litebert.cluster.notes import notes

LINES = """2026-11-23T15:00:00Z job=12 queued
2026-11-23T15:01:00Z job=12 came
2026-11-23T15:01:00Z job=12 nodes=2 step=140
2026-11-23T16:00:00Z job=12_3 ended code=2
"""


def test_what_jobs_did_is_read_but_for_a_line_that_is_being_written(tmp_path: Path) -> None:
    assert notes(tmp_path) == []
    (tmp_path / ".starts").write_text(LINES + "2026-11-23T17:00:00Z job=13 que")
    queued, started, ended = notes(tmp_path)
    assert (queued.queued, queued.started, queued.code) == (True, False, None)
    assert (started.queued, started.started, started.code) == (False, True, None)
    assert (ended.queued, ended.started, ended.code) == (False, False, 2)
    assert [note.job for note in (queued, started, ended)] == ["12", "12", "12_3"]
    assert started.when == datetime.datetime(2026, 11, 23, 15, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"\n",
        b"\xff\n",
        b"yesterday job=1 queued\n",
        b"2026-11-23T15:00:00 job=1 queued\n",
        b"2026-11-23T15:00:00Z job=1 ended code=x\n",
    ],
)
def test_anything_else_is_named_with_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".starts").write_bytes(LINES.encode() + content)
    with pytest.raises(
        ValueError, match=r"\.starts: not what slurm/job\.sh writes \(.*: remove what is not$"
    ) as caught:
        notes(tmp_path)
    assert "\n" not in str(caught.value)
