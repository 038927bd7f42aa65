"""A run folder: what lies in it, and what makes a continuation the same run.

RUN/run.json  recipe.yaml  tokenizer/  ledger.bin  metrics.jsonl  tensorboard/  checkpoints/  done.json  log.txt
    micro_tokens.json, where data.micro_tokens is auto: how many they came to, by devices and engine
    rollbacks.json, where there was one: the batches that are left out; errors/, where there were some
    .lock: whoever trains holds it; .starts, where there are jobs: what slurm/job.sh notes of them
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import shutil
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from litebert.recipe import CHANGEABLE, Recipe, fixed
from litebert.train.checkpoint import Checkpoint, folder_of, latest, read
from litebert.train.commit import commit
from litebert.train.health import RollBack
from litebert.train.journal import ERRORS, LOG, record
from litebert.train.world import World

RECORD, LOCK, STARTS = "run.json", ".lock", ".starts"
ROLLBACKS, SIZES = "rollbacks.json", "micro_tokens.json"
PATIENCE = 5.0  # seconds in which whoever looks whether a run trains has let go of its lock
UNRECORDED = ("answers.precision", "answers.seed")  # fingerprints that no record of an earlier version has
MOST_ROLLBACKS, RECENT = 3, 100  # so many within so many steps; after that it is not the batches' fault
PACKAGES = ("torch", "deepspeed", "numpy", "safetensors")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder, and the run that wants it.

    Attributes:
        path: where it lies.
        fingerprints: of what the run reads, by name: data and tokenizer.
        recipe: of the run.
        data: where what it reads lies: paths or URLs of folders of shards, which may move.
        devices: that it trains on, in words; its next session may have others.
    """

    path: Path
    fingerprints: Mapping[str, str]
    recipe: Recipe
    data: Sequence[str] = ()
    devices: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """What run.json and every checkpoint say of the run."""
        return {"fingerprints": dict(self.fingerprints), "recipe": self.recipe.to_dict()}

    def check(self) -> None:
        """Changes nothing.

        Raises:
            ValueError: the folder holds something that is not this run.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: choose another --run")
        if (self.path / RECORD).exists():
            self.match(recorded(self.path), self.path)
        elif any(not _early(entry) for entry in self.path.iterdir()):
            raise ValueError(f"{self.path} holds something that is no run of litebert: choose another --run")

    @contextlib.contextmanager
    def held(self, patience: float = PATIENCE) -> Iterator[None]:
        """Keeps every other training out of the folder, until this one ends or dies.

        Args:
            patience: seconds to wait for another one to leave it.

        Raises:
            ValueError: another one is at work in it.
            OSError: the folder cannot be written, or its file system has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + patience
        with (self.path / LOCK).open("w") as lock:
            while not _locked(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise ValueError(f"{self.path}: another training is at work in it; let it end, or stop it")
                time.sleep(0.1)
            yield

    def match(self, record: Mapping[str, Any], where: Path) -> None:
        """Compares what was recorded with this run.

        Raises:
            ValueError: they are different runs; each differing key is listed with both values.
        """
        was, now = _identity(record), _identity(self.record)
        differing = [
            f"{key} was {was.get(key)}, now {now.get(key)}"
            for key in sorted(was.keys() | now.keys())
            if was.get(key) != now.get(key) and (key in was or key not in UNRECORDED)
        ]
        if differing:
            raise ValueError(
                f"{where} is of another run: {'; '.join(differing)}; go back to that, or choose another --run "
                f"(what may change: the number of ranks, {', '.join(sorted(CHANGEABLE))})"
            )

    def skipped(self) -> frozenset[int]:
        """The batches that roll-backs ruled out, numbered as the steps that would have been made of them."""
        return ruled_out(self.path)

    def unrecorded(self) -> str:
        """What the run takes for its own because its record lacks it, in a line; empty where that is nothing."""
        if not (self.path / RECORD).exists():
            return ""
        lacking = self.fingerprints.keys() - recorded(self.path)["fingerprints"].keys()
        taken = ", ".join(f"{key} {self.fingerprints[key]}" for key in UNRECORDED if key in lacking)
        return f"{self.path} was begun by a version that did not record {taken}: taken for it" if taken else ""

    def changed_versions(self) -> str:
        """Which libraries are other ones than when the run began, in a line; empty where none is."""
        if not (self.path / RECORD).exists():
            return ""
        was, now = recorded(self.path).get("versions", {}), versions()
        changed = [f"{name} was {was[name]}, now {now[name]}" for name in now if name in was and was[name] != now[name]]
        return (
            f"{self.path} goes on with other libraries: {', '.join(changed)}: not to the same bits" if changed else ""
        )

    def roll_back(self, back: RollBack) -> None:
        """Rules batches out, durably, and with them every checkpoint that was trained on one."""
        entry = {"first": back.first, "last": back.last, "reason": back.reason}
        write(self.path / ROLLBACKS, json.dumps([*rolled_back(self.path), entry], indent=1))

    def resume(self, world: World) -> Checkpoint | None:
        """The newest sound checkpoint, the same on every rank; None where there is none yet. Collective.

        Raises:
            ValueError: no checkpoint is sound though there are some; or the newest is of another run, or of a step
                behind which this one is to end.
            FloatingPointError: going back has not helped.
        """
        found = self._newest() if world.leads else None
        step = world.control.broadcast(found.step if found else 0)
        rollbacks = rolled_back(self.path)
        recent = [back for back in rollbacks if back["first"] > rollbacks[-1]["last"] - RECENT]
        if len(recent) > MOST_ROLLBACKS:
            raise FloatingPointError(
                f"{self.path} went back {len(recent)} times in {RECENT} steps, the last time for steps "
                f"{recent[-1]['first']} to {recent[-1]['last']} with {recent[-1]['reason']}: it is not the batches' "
                "fault; start a new --run with a lower optimizer.lr or more schedule.warmup_steps"
            )
        if step == 0:
            return None
        checkpoint = found or read(folder_of(self.path, step))
        self.match(checkpoint.info, checkpoint.folder)
        if step > self.recipe.train.steps:
            raise ValueError(f"{self.path} is at step {step} already: raise train.steps, or choose another --run")
        return checkpoint

    def _newest(self) -> Checkpoint | None:
        damaged: list[str] = []
        found = latest(self.path, damaged.append, self.skipped())
        if damaged and not found:
            raise ValueError(
                f"{self.path} has no checkpoint to go on from ({damaged[0]}): put a sound one back, choose another "
                f"--run, or remove {self.path / 'checkpoints'} to begin anew"
            )
        for line in damaged:
            print(line, flush=True)
        return found

    def prepare(self, tokenizer: Path) -> None:
        """Makes the folder this run's, or refreshes what a continuation may change. A kill does no harm.

        Args:
            tokenizer: the folder that is copied.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / RECORD).exists():
            found = {"data": list(self.data), "devices": self.devices, "versions": versions(), "commit": commit()}
            write(self.path / RECORD, json.dumps(self.record | found, indent=1))
        write(self.path / "recipe.yaml", self.recipe.to_yaml())
        copied = self.path / "tokenizer"
        if not copied.exists():
            aside = copied.with_suffix(".tmp")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                shutil.copytree(tokenizer, aside)
            except shutil.Error as error:  # a list of what went wrong with each file
                _, path, reason = error.args[0][0]
                raise OSError(f"{path}: cannot be copied: {reason}") from None
            aside.rename(copied)
        (self.path / "done.json").unlink(missing_ok=True)

    def finish(self, steps: int) -> None:
        """Records that the run is at its end, after so many steps."""
        write(self.path / "done.json", json.dumps({"step": steps}))


def _early(entry: Path) -> bool:
    """Whether a start that did not come far may have left it."""
    return entry.suffix == ".tmp" or entry.name.startswith(".") or entry.name in (LOG, ERRORS, SIZES)


def versions() -> dict[str, str]:
    """Of what a run's bits depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def begun(run: Path) -> bool:
    """Whether a folder is that of a run, if only of one that waits for its first start."""
    return any((run / name).is_file() for name in (RECORD, LOCK, STARTS))


def recorded(run: Path) -> dict[str, Any]:
    """What run.json says. Raises ValueError where that is not what a run writes there."""
    path = run / RECORD
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        _identity(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not the record of a run ({error!r}): put it back, or choose another run") from None
    return found


def trains(run: Path) -> bool:
    """Whether a training holds a run's folder, here or on any node that its file system shares locks with.

    To see that, it takes the lock for a moment, which ``held`` waits out.

    Raises:
        OSError: the lock cannot be read, or the file system has none.
    """
    try:
        with (run / LOCK).open() as lock:
            return not _locked(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _locked(lock: TextIO, kind: int) -> bool:
    """Whether the lock could be had; it is held until the file is closed."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(
            f"{lock.name}: cannot be locked ({error}): mount the file system with locks (Lustre: -o flock)"
        ) from None
    return True


@contextlib.contextmanager
def beginning(run: Path, rank: int, node: str) -> Iterator[None]:
    """What ends a rank meanwhile, before it holds the folder, is recorded there: where the folder is a run's, and
    nobody trains in it, whose errors they would seem to be."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):  # it is the other error that counts
            if begun(run) and (rank or not trains(run)):
                record(run, rank, node, repr(error), traceback.format_exc())
        raise


def ruled_out(run: Path) -> frozenset[int]:
    """The batches that a run's roll-backs ruled out, numbered as steps. Raises ValueError where that cannot be read."""
    return frozenset(batch for back in rolled_back(run) for batch in range(back["first"], back["last"] + 1))


def rolled_back(run: Path) -> list[dict[str, Any]]:
    """Of each time that a run went back, the first and the last step that it left out, and the reason.

    Raises ValueError where that cannot be read.
    """
    path = run / ROLLBACKS
    if not path.exists():
        return []
    try:
        return [
            {"first": int(back["first"]), "last": int(back["last"]), "reason": str(back["reason"])}
            for back in json.loads(path.read_text())
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no list of roll-backs ({error!r}): put it back, or choose another --run") from None


def write(path: Path, text: str) -> None:
    """Replaces a file by a text in one rename, durably. Others may write it meanwhile: the last one stays."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must stay the same for a run to be the same run, by dotted key."""
    return {**record["fingerprints"], **fixed(record["recipe"])}
