"""What a run said, kept in its folder: RUN/log.txt and RUN/errors/rank-00003.log.

log.txt has the lines of rank 0, of all sessions, and the error that it ended with, if there was one. An entry of errors
begins with a line that says when, who and what; what follows is indented. The earliest of a session is what ended it:
the others are its echo.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

LOG = "log.txt"
ERRORS = "errors"


class _Both(io.TextIOBase):
    """A stream whose text goes to two."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self._streams = (first, second)

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


@contextlib.contextmanager
def kept(run: Path, heading: str = "") -> Iterator[None]:
    """What is printed meanwhile goes to the end of the run's log as well, line by line.

    Args:
        heading: a line that was printed before.
    """
    with (run / LOG).open("a", 1, "utf-8") as log, contextlib.redirect_stdout(_Both(sys.stdout, log)):
        log.write(f"{heading}\n" if heading else "")
        yield


def record(run: Path, rank: int, node: str, error: str, more: str = "") -> None:
    """Adds what ended a rank to its errors, and what ended rank 0 to the log.

    Where the folder cannot be written, it is said elsewhere alone.

    Args:
        node: that it was on; empty where that is not known.
        error: what, in a line.
        more: text of any length.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    told = f"{now} rank {rank}{f' on {node}' if node else ''}: {' '.join(error.split())}\n"
    details = textwrap.indent(f"{more.rstrip()}\n", "    ") if more else ""
    entries = {run / ERRORS / f"rank-{rank:05d}.log": told + details}
    if rank == 0:
        entries[run / LOG] = told
    with contextlib.suppress(OSError):
        (run / ERRORS).mkdir(exist_ok=True)
        for path, text in entries.items():
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)


def errors(run: Path) -> list[str]:
    """The first lines of all that is recorded, the oldest first. Raises ValueError where a file of it is no text."""
    lines = []
    for path in (run / ERRORS).glob("rank-*.log"):
        try:
            lines += path.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not the errors of a rank ({error}): remove the file") from None
    return sorted(line for line in lines if line and not line[0].isspace())
