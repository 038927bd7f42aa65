"""The work folder of a build: what is finished in it stays finished, however the build ends.

A build is a row of stages, each of many items that do not depend on one another. An item's results are a folder,
``<work folder>/<stage>/<item>``, written under another name and put in place by one rename: what stands under its own
name is whole. The work folder is named after everything the result depends on, so what is in it is valid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gc
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import data_tools

_LOCK = "lock"
_NEW_OBJECTS = 200_000  # between two searches for reference cycles
_UNFINISHED = "."  # what the names of folders begin with that are being written


class Stage(Protocol):
    """One step of a build, for any number of processes.

    Attributes:
        name: unique in the build; also of the folder that holds its results.
    """

    @property
    def name(self) -> str: ...

    def items(self) -> list[str]:
        """The names of its items: of letters, digits, - and _, a function of the input alone, never of the workers.

        Asked once the stages before it are done. A stage that goes along with the one before it (see ``Executor``) is
        asked again and again while that one works, and names the items that can be done so far.
        """

    def run(self, item: str, folder: Path) -> None:
        """Do one item and leave its results in a new, empty folder. The same item gives the same bytes."""


@dataclasses.dataclass(frozen=True)
class Work:
    """A work folder."""

    folder: Path

    def path(self, stage: str, item: str) -> Path:
        """Where the results of an item are once it is finished."""
        return self.folder / stage / item

    def is_finished(self, stage: str, item: str) -> bool:
        """Whether they are there."""
        return self.path(stage, item).is_dir()

    def finished(self, stage: str) -> list[str]:
        """The finished items of a stage, sorted."""
        try:
            return sorted(name for name in os.listdir(self.folder / stage) if not name.startswith(_UNFINISHED))
        except FileNotFoundError:
            return []

    def finish(self, stage: Stage, item: str) -> None:
        """Do an item, unless it is finished."""
        if not self.is_finished(stage.name, item):
            with self.publishing(stage.name, item) as folder, _seldom_collected():
                stage.run(item, folder)

    @contextlib.contextmanager
    def publishing(self, stage: str, item: str) -> Iterator[Path]:
        """A new folder to write an item's results in. At the end it is on disk and in place; after an error, gone.

        Where another process was faster, its results stand: they are the same.
        """
        target = self.path(stage, item)
        target.parent.mkdir(exist_ok=True)
        folder = target.with_name(f"{_UNFINISHED}{item}.{uuid.uuid4().hex}")
        folder.mkdir()
        try:
            yield folder
            for path in (*folder.iterdir(), folder):
                synchronize(path)
            with contextlib.suppress(OSError):
                folder.rename(target)
                synchronize(target.parent)
            if not target.is_dir():
                raise OSError(f"{folder} cannot be renamed to {target}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clear_unfinished(self) -> None:
        """Remove what killed processes left half-written. Nobody else may be at work in the folder."""
        for path in self.folder.glob(f"*/{_UNFINISHED}*"):
            shutil.rmtree(path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Work]:
    """The work folder, made if need be, for this process alone. Raises ValueError where another process has it."""
    stream = None
    while stream is None:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed by another build just now: make it again
            stream = _lock(folder)
    with stream:
        yield Work(folder)


@contextlib.contextmanager
def _seldom_collected() -> Iterator[None]:
    """Few searches for reference cycles: rows by the ten thousand would be looked through again and again for none."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _lock(folder: Path) -> contextlib.AbstractContextManager[object] | None:
    """The held lock of a folder; None where the folder was removed while it was waited for."""
    path = folder / _LOCK
    stream = path.open("a")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise ValueError(f"another build is at work in {folder}; wait for it, or stop it") from None
    if path.exists() and os.path.samestat(os.fstat(stream.fileno()), os.stat(path)):
        return stream
    stream.close()
    return None


def work_folder(output: Path, identity: str) -> Path:
    """The work folder of the build that makes a folder, beside it.

    Args:
        identity: fingerprint of all that the result depends on, in hex.
    """
    return output.with_name(f".{output.name}.{identity[:16]}.partial")


def remove_stale(output: Path, but: Path | None = None) -> None:
    """Remove the work folders of builds of the same output whose input or config was another.

    Raises ValueError where another process is at work in one: only one of the two could be published.
    """
    pattern = re.compile(rf"\.{re.escape(output.name)}\.[0-9a-f]{{16}}\.partial")
    for folder in output.parent.iterdir() if output.parent.is_dir() else ():
        if pattern.fullmatch(folder.name) and folder != but:
            with locked(folder):
                shutil.rmtree(folder)


def put_in_place(folder: Path, output: Path) -> None:
    """Give a finished folder its name. Raises ValueError where that was taken meanwhile."""
    try:
        folder.replace(output)
    except OSError as error:
        raise ValueError(f"{output} was taken while it was built ({error.strerror}); give another --output") from error
    synchronize(output.parent)


def synchronize(path: Path) -> None:
    """Have a file or a folder's entries on disk, so that a crash of the machine does not undo them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_json(path: Path, value: Any) -> None:
    """Write a value as JSON: the same bytes for the same value."""
    path.write_text(json.dumps(value, ensure_ascii=False, sort_keys=True), encoding="utf-8")


def load_json(path: Path) -> Any:
    """Read it back."""
    return json.loads(path.read_text(encoding="utf-8"))


def code_fingerprint() -> str:
    """SHA-256 of this package, in hex: what another version of it left half-done is not gone on with."""
    digest = hashlib.sha256()
    for path in sorted(Path(os.path.dirname(data_tools.__file__)).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
