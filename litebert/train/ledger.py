"""Which samples each optimizer step was made of: one line a step, committed with the checkpoint.

A line is written when its step is done and counts once a checkpoint says so: on resume the file is cut back
to the length that the checkpoint recorded, and the hash recorded beside it proves that those lines are the
same ones.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


class Ledger:
    """The ledger of a run, open for appending; one rank writes it."""

    def __init__(self, path: Path, commit: dict[str, Any] | None) -> None:
        """Opens the ledger as a checkpoint left it.

        Args:
            path: the file; it is created where there is none.
            commit: what ``commit`` returned for the checkpoint that the run resumes from; None empties the
                ledger.

        Raises:
            ValueError: the file does not begin with the lines that the checkpoint counted.
        """
        committed = commit or {"steps": 0, "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
        path.touch()
        self._file = path.open("r+b")
        self._hash = hashlib.sha256(self._file.read(committed["bytes"]))
        if self._hash.hexdigest() != committed["sha256"]:
            raise ValueError(
                f"{path}: its first {committed['steps']} lines are not those the checkpoint was saved with; "
                "put the file back, or start a new --run"
            )
        self._file.truncate()
        self._steps, self._bytes = committed["steps"], committed["bytes"]

    def append(self, step: int, epoch: int, digest: str, skipped: bool = False) -> None:
        """Adds a finished step: its 0-based number, its epoch, the digest of its global batch's samples.

        Args:
            skipped: whether a roll-back ruled its batch out, so that nothing was trained on it.
        """
        entry = {"step": step, "epoch": epoch, "digest": digest} | ({"skipped": True} if skipped else {})
        line = json.dumps(entry).encode() + b"\n"
        self._file.write(line)
        self._hash.update(line)
        self._steps, self._bytes = self._steps + 1, self._bytes + len(line)

    def commit(self) -> dict[str, Any]:
        """Hands all lines to the system; returns their count, bytes and SHA-256, for the checkpoint to keep.

        The checkpoint makes them durable before it counts.
        """
        self._file.flush()
        return {"steps": self._steps, "bytes": self._bytes, "sha256": self._hash.hexdigest()}
