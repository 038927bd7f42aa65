"""The ledger across commits, cuts, ranks and tampering."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from litebert.data.batch import Counts, Step
from litebert.train.ledger import RECORD, Kind, Ledger, read


def step(number: int, digest: int, quarantined: tuple[int, ...] = ()) -> Step:
    return Step(number, [], Counts(0, 8 - len(quarantined), 0, 0), digest, np.array(quarantined, np.int64))


def alone(numbers: torch.Tensor) -> None:
    """The sum over one rank."""


def opened(path: Path, commit: dict | None) -> Ledger:
    return Ledger(path, commit, True, alone)


def test_a_resume_cuts_back_to_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    ledger = opened(path, None)
    for number in range(5):
        ledger.append(step(number, 2**64 - 1 - number))
    committed = ledger.commit()
    held = path.read_bytes()
    ledger.append(step(5, 99))
    ledger.commit()
    assert committed == {"steps": 5, "bytes": 5 * RECORD.itemsize, "sha256": hashlib.sha256(held).hexdigest()}

    resumed = opened(path, committed)
    resumed.append(step(5, 7), skipped=True)
    again = resumed.commit()
    records, torn = read(path)
    assert records["value"].tolist() == [2**64 - 1, 2**64 - 2, 2**64 - 3, 2**64 - 4, 2**64 - 5, 7]
    assert records["kind"].tolist() == [Kind.TRAINED] * 5 + [Kind.SKIPPED] and torn == 0
    assert again["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened(path, again).commit() == again


def test_what_is_not_committed_is_not_written(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger.bin", None)
    ledger.append(step(0, 1))
    assert (tmp_path / "ledger.bin").read_bytes() == b""


def test_ranks_add_up_modulo_2_to_the_64_and_one_writes(tmp_path: Path) -> None:
    shares = np.random.default_rng(0).integers(0, 2**64, (3, 4), np.uint64)
    sums: list[torch.Tensor] = []
    ledgers = [Ledger(tmp_path / f"{rank}", None, rank == 0, sums.append) for rank in range(3)]
    for ledger, own in zip(ledgers, shares.tolist(), strict=True):
        for number, share in enumerate(own):
            ledger.append(step(number, share, quarantined=(40, 41) if number == 2 else ()))
    for ledger in reversed(ledgers[1:]):
        ledger.commit()
    ledgers[0]._total = lambda numbers: numbers.add_(sums[0]).add_(sums[1])  # type: ignore[assignment]
    ledgers[0].commit()
    records, _ = read(tmp_path / "0")
    own = records[records["kind"] == Kind.TRAINED]
    assert own["value"].tolist() == [sum(column) % 2**64 for column in shares.T.tolist()]
    assert records[2:5]["value"].tolist()[:2] == [40, 41] and own["samples"].tolist() == [8, 8, 6, 8]
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_refused_step_is_marked_when_it_is_committed(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger.bin", None)
    ledger.append(step(0, 1))
    ledger.append(step(1, 2, quarantined=(7,)))
    ledger.refuse(1)
    ledger.commit()
    ledger.append(step(2, 3))
    ledger.commit()
    records, _ = read(tmp_path / "ledger.bin")
    assert records["kind"].tolist() == [Kind.TRAINED, Kind.QUARANTINED, Kind.REFUSED, Kind.TRAINED]


def test_a_missing_ledger_is_refused_and_not_made(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger.bin", None)
    ledger.append(step(0, 1))
    committed = ledger.commit()
    (tmp_path / "ledger.bin").unlink()
    with pytest.raises(ValueError, match=r"ledger\.bin is missing; put the file back"):
        opened(tmp_path / "ledger.bin", committed)
    assert not list(tmp_path.iterdir())


def test_a_record_cut_off_is_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    ledger = opened(path, None)
    ledger.append(step(0, 1))
    ledger.append(step(1, 2))
    ledger.commit()
    path.write_bytes(path.read_bytes()[:-5])
    records, torn = read(path)
    assert (len(records), torn) == (1, RECORD.itemsize - 5)


def test_a_new_run_begins_empty(tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    path.write_text("of a run that never saved\n")
    assert opened(path, None).commit()["steps"] == 0
    assert path.read_bytes() == b""


@pytest.mark.parametrize("content", [b"", bytes(RECORD.itemsize)])
def test_other_records_than_the_committed_ones_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.bin"
    ledger = opened(path, None)
    ledger.append(step(0, 1))
    committed = ledger.commit()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="first 1 steps"):
        opened(path, committed)
    assert path.read_bytes() == content
