"""What each optimizer step was made of: records of a fixed size, committed with the checkpoint.

A step's record has the digest of the samples that the ranks decoded for it, which each rank keeps and all add up
when a checkpoint is made. Records count once a checkpoint says so: on resume the file is cut back to the length
that the checkpoint recorded, and the hash recorded beside it proves that those records are the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from litebert.data.batch import Step

FILE = "ledger.bin"

RECORD = np.dtype([("kind", "<u4"), ("samples", "<u4"), ("step", "<u8"), ("value", "<u8")])
Records = npt.NDArray[np.void]

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


class Kind(IntEnum):
    """What a record says of its step."""

    TRAINED = 0  # value: the digest of its samples
    SKIPPED = 1  # nothing was trained on its samples, because a roll-back ruled them out; value: their digest
    QUARANTINED = 2  # value: a sample that was left out, numbered through the folders; before the step's own record
    REFUSED = 3  # its samples were fed and nothing was learnt, for it was not finite; value: their digest


class Ledger:
    """The ledger of a run, open for appending. Every rank has one and calls it alike; one rank writes the file."""

    def __init__(
        self, path: Path, commit: dict[str, Any] | None, leads: bool, total: Callable[[torch.Tensor], None]
    ) -> None:
        """Opens the ledger as a checkpoint left it.

        Args:
            path: the file; it is created where there is none.
            commit: what ``commit`` returned for the checkpoint that the run resumes from; None empties the
                ledger.
            leads: whether this rank writes the file.
            total: sums an int64 tensor on the host over all ranks, in place.

        Raises:
            ValueError: the file does not begin with the records that the checkpoint counted.
        """
        self._total = total
        self._records: list[tuple[int, int, int, int]] = []
        self._refused: list[int] = []
        self._file = _cut_back(path, commit) if leads else None
        committed = commit or {"steps": 0, "bytes": 0, "sha256": ""}
        self._steps, self._bytes = committed["steps"], committed["bytes"]
        self._hash = hashlib.sha256()
        if self._file:
            self._file.seek(0)
            self._hash.update(self._file.read())

    def append(self, step: Step, skipped: bool = False) -> None:
        """Adds a finished step; ``skipped`` if nothing was trained on it, because a roll-back ruled it out."""
        self._records += [(Kind.QUARANTINED, 1, step.number, int(sample)) for sample in step.quarantined]
        kind = Kind.SKIPPED if skipped else Kind.TRAINED
        self._records.append((kind, step.counts.samples, step.number, step.digest))
        self._steps += 1

    def refuse(self, step: int) -> None:
        """Takes note that nothing was learnt from a step since the last commit, for it was not finite."""
        self._refused.append(step)

    def commit(self) -> dict[str, Any]:
        """Adds up what the ranks were fed, and hands all records to the system, for the checkpoint to make durable.
        Collective.

        Returns:
            their number of steps, bytes and SHA-256, for the checkpoint to keep; of use where the rank leads.
        """
        records = np.array(self._records, RECORD)
        steps = records["kind"] != Kind.QUARANTINED
        records["kind"][steps & np.isin(records["step"], self._refused)] = Kind.REFUSED
        self._records, self._refused = [], []
        records["value"][steps] = _summed(records["value"][steps], self._total)
        self._bytes += records.nbytes
        if self._file:
            self._file.write(records.tobytes())
            self._hash.update(records.tobytes())
            self._file.flush()
        return {"steps": self._steps, "bytes": self._bytes, "sha256": self._hash.hexdigest()}


def read(path: Path) -> tuple[Records, int]:
    """The records of a ledger, and how many bytes of one more were written when its run was cut off."""
    data = path.read_bytes()
    whole = len(data) // RECORD.itemsize
    return np.frombuffer(data, RECORD, whole), len(data) - whole * RECORD.itemsize


def disagreement(records: Records, commit: dict[str, Any]) -> str:
    """Why a ledger does not begin with the records that a checkpoint counted; empty where it does."""
    counted = commit["bytes"] // RECORD.itemsize
    if len(records) < counted:
        return f"the ledger is cut off: {len(records)} records are left of the {counted} that its checkpoint counted"
    if hashlib.sha256(records[:counted].tobytes()).hexdigest() != commit["sha256"]:
        return f"the first {counted} records are not those that its checkpoint counted: their SHA-256 differs"
    return ""


def _summed(digests: npt.NDArray[np.uint64], total: Callable[[torch.Tensor], None]) -> npt.NDArray[np.uint64]:
    """The sums over all ranks, modulo 2**64; in halves, for a sum of signed 64-bit numbers must not overflow."""
    halves = torch.from_numpy(np.stack([digests & _LOW, digests >> _HALF]).astype(np.int64))
    total(halves)
    low, high = halves.numpy().astype(np.uint64)
    return low + (high << _HALF)


def _cut_back(path: Path, commit: dict[str, Any] | None) -> Any:
    try:
        file = path.open("r+b" if commit else "w+b")
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; put the file back, or start a new --run") from None
    length = commit["bytes"] if commit else 0
    if commit and hashlib.sha256(file.read(length)).hexdigest() != commit["sha256"]:
        raise ValueError(
            f"{path}: its first {commit['steps']} steps are not those the checkpoint was saved with; "
            "put the file back, or start a new --run"
        )
    file.truncate(length)
    return file
