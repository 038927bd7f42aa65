"""What slurm/job.sh noted of a run's jobs in RUN/.starts, a line each time:

2026-11-23T15:00:00Z job=12 queued                it was submitted, or went back into the queue
2026-11-23T15:01:00Z job=12 came                  it looked whether another one is at work in the run
2026-11-23T15:01:00Z job=12 nodes=2 step=140      it began to train, from that checkpoint
2026-11-23T16:00:00Z job=12 ended code=2          for good
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path

from litebert.train.run import STARTS

_CAME = re.compile(r"\S+ job=\S+ came")
_LINE = re.compile(r"(\S+) job=(\S+) (?:(?P<queued>queued)|ended code=(?P<code>\d+)|nodes=\d+ step=\d+)")


@dataclasses.dataclass(frozen=True)
class Note:
    """A line.

    Attributes:
        line: as it stands there.
        when: by the clock of the node that wrote it.
        job: Slurm's number of it.
        queued: whether the job began to wait.
        code: its exit code, where it ended.
    """

    line: str
    when: datetime.datetime
    job: str
    queued: bool
    code: int | None

    @property
    def started(self) -> bool:
        """Whether the job began to train."""
        return not self.queued and self.code is None

    @classmethod
    def of(cls, line: str) -> Note:
        """Raises ValueError where it is none."""
        if not (found := _LINE.fullmatch(line)):
            raise ValueError(f"{line!r} is no note of a job")
        when = datetime.datetime.fromisoformat(found[1])
        if not when.tzinfo:
            raise ValueError(f"{line!r} says no time zone")
        code = found["code"]
        return cls(line, when, found[2], bool(found["queued"]), int(code) if code else None)


def notes(run: Path) -> list[Note]:
    """The oldest first, without those on jobs that only came, and without the last one where it is half written.

    Raises ValueError where a line is none.
    """
    path = run / STARTS
    try:
        content = path.read_text() if path.is_file() else ""
        lines = content[: content.rfind("\n") + 1].splitlines()
        return [Note.of(line) for line in lines if not _CAME.fullmatch(line)]
    except ValueError as error:
        raise ValueError(f"{path}: not what slurm/job.sh writes ({error}): remove what is not") from None
