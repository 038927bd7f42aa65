"""The ledger across commits, cuts and tampering."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from litebert.train.ledger import Ledger


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resume_cuts_back_to_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, None)
    for step in range(5):
        ledger.append(step, 0, f"d{step}")
    committed = ledger.commit()
    ledger.append(5, 1, "lost")
    ledger.commit()
    assert committed == {
        "steps": 5,
        "bytes": len("".join(path.read_text().splitlines(keepends=True)[:5])),
        "sha256": hashlib.sha256("".join(path.read_text().splitlines(keepends=True)[:5]).encode()).hexdigest(),
    }

    resumed = Ledger(path, committed)
    resumed.append(5, 1, "d5")
    again = resumed.commit()
    assert [line["digest"] for line in lines(path)] == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert again["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Ledger(path, again).commit() == again


def test_a_new_run_begins_empty(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("of a run that never saved\n")
    assert Ledger(path, None).commit()["steps"] == 0
    assert path.read_bytes() == b""


@pytest.mark.parametrize("content", [b"", b'{"step": 0, "epoch": 0, "digest": "x"}\n'])
def test_other_lines_than_the_committed_ones_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, None)
    ledger.append(0, 0, "d")
    committed = ledger.commit()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="first 1 lines"):
        Ledger(path, committed)
    assert path.read_bytes() == content
