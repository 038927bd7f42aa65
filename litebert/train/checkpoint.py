"""Checkpoints in one format, whatever the world size and ZeRO stage: fp32 tensors by parameter name, and
JSON.

    RUN/checkpoints/step-00000200/
        part-0000.safetensors  part-0001.safetensors ...  each rank's share of the parameters, with their moments
        checkpoint.json        step, fingerprints, recipe, ledger; size and SHA-256 of each file above, and its own

A checkpoint is written into ``step-00000200.tmp`` by all ranks, fsynced, and published by one rename once all have
agreed that theirs is there. What a reader finds under a name without ``.tmp`` was complete when it was published;
whether it still is, its hashes tell. No pickle anywhere, and nothing here needs DeepSpeed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FORMAT = 2
WEIGHTS = "weights"

T = TypeVar("T")


class Peers(Protocol):
    """The processes that write one checkpoint together, numbered by rank."""

    @property
    def rank(self) -> int: ...

    def gather(self, text: str) -> list[str]:
        """A text of every process, in the order of ranks, on every process; collective."""


class Alone:
    """One process by itself."""

    rank = 0

    def gather(self, text: str) -> list[str]:
        """Its own text."""
        return [text]


@dataclasses.dataclass(frozen=True)
class Retention:
    """Which checkpoints stay.

    Attributes:
        last: how many of the newest.
        every: of how many steps each multiple stays for good; 0 for none.
    """

    last: int
    every: int = 0

    def unwanted(self, steps: list[int]) -> list[int]:
        """The steps, of those given oldest first, whose checkpoints may go."""
        return [step for step in steps[: -self.last] if not (self.every and step % self.every == 0)]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        folder: where it lies.
        info: its checkpoint.json.
    """

    folder: Path
    info: dict[str, Any]

    @property
    def step(self) -> int:
        """How many optimizer steps had been done."""
        return int(self.info["step"])

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """All tensors of one kind by parameter name: fp32, on the CPU, in the parameter's shape.

        They are mapped into memory, so that what is read of them is what is touched.
        """
        found = {}
        for name in self.info["files"]:
            with safe_open(self.folder / name, "pt") as file:
                for key in file.keys():  # noqa: SIM118  # not a mapping
                    of, _, parameter = key.partition("/")
                    if of == kind:
                        found[parameter] = file.get_tensor(key)
        return found


def read(folder: Path) -> Checkpoint:
    """Opens a checkpoint without reading its tensors.

    Raises:
        ValueError: the folder holds none, or one of a format that this version does not know.
    """
    try:
        info = json.loads((folder / "checkpoint.json").read_text())
        written, own = info["format"], info.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not a checkpoint: {error}") from None
    if written != FORMAT:
        raise ValueError(f"{folder} has checkpoint format {written}, this litebert reads {FORMAT}")
    if own != _json_sha256(info):
        raise ValueError(f"{folder / 'checkpoint.json'} is not what was written: its SHA-256 differs")
    return Checkpoint(folder, info)


def read_weights(folder: Path, module: str = "model") -> dict[str, Tensor]:
    """The fp32 weights of one module of the training objective, named as in that module's own state dict.

    Args:
        folder: a checkpoint.
        module: the attribute of the objective; "model" is the encoder with its heads.
    """
    weights = read(folder).tensors(WEIGHTS)
    prefix = f"{module}."
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def latest(run: Path, report: Callable[[str], None] = print, skipped: Iterable[int] = ()) -> Checkpoint | None:
    """The newest checkpoint of a run whose files are all as they were written; None if there is none.

    Args:
        run: the run folder.
        report: gets one line for each newer checkpoint that had to be passed over.
        skipped: batches that a roll-back ruled out: a checkpoint that was trained on one of them is not taken.
    """
    for folder in reversed(published(run)):
        try:
            checkpoint = read(folder)
            verify(checkpoint)
        except ValueError as error:
            report(f"skipping a damaged checkpoint: {error}")
            continue
        if {batch for batch in skipped if batch < checkpoint.step} <= set(checkpoint.info.get("skipped", ())):
            return checkpoint
    return None


def published(run: Path) -> list[Path]:
    """The folders of all checkpoints, oldest first; what has another name, as a copy may, is none."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if re.fullmatch(r"step-[0-9]{8,}", path.name)), key=_step_of)


def verify(checkpoint: Checkpoint) -> None:
    """Raises ValueError that names the first file of a checkpoint that is not as it was written."""
    for name, expected in checkpoint.info["files"].items():
        path = checkpoint.folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if path.stat().st_size != expected["bytes"]:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, {expected['bytes']} were written")
        if _sha256(path) != expected["sha256"]:
            raise ValueError(f"{path} is not what was written: its SHA-256 differs")


def folder_of(run: Path, step: int) -> Path:
    """Where a run's checkpoint of a step lies, or would."""
    return run / "checkpoints" / f"step-{step:08d}"


def owners(sizes: Mapping[str, int], ranks: int) -> dict[str, int]:
    """Deals parameters out, largest first, each to the rank with the least so far.

    Args:
        sizes: by parameter name, in any unit.
        ranks: how many share them.

    Returns:
        the rank of each parameter.
    """
    loads = [(0, rank) for rank in range(ranks)]
    dealt = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        load, rank = loads[0]
        dealt[name] = rank
        heapq.heapreplace(loads, (load + sizes[name], rank))
    return dealt


def publish(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    info: Mapping[str, Any],
    retention: Retention,
    peers: Peers | None = None,
    durable: Sequence[Path] = (),
) -> Checkpoint:
    """Writes a checkpoint, makes it durable and visible in one rename, then drops those no longer wanted. Collective.

    Args:
        run: the run folder.
        step: optimizer steps done.
        tensors: this process's share, by kind and parameter name: fp32, on the CPU, contiguous.
        info: what else checkpoint.json is to hold; its values are what json can write. Rank 0's counts.
        retention: which checkpoints stay; this one does.
        peers: who writes it together.
        durable: files that this process wrote and the checkpoint counts on: they are made durable first.

    Raises:
        OSError: a process could not write, or has values that are not finite, on every process; older checkpoints are
            as they were.
    """
    peers = peers or Alone()
    leads = peers.rank == 0
    folder = folder_of(run, step)
    aside = folder.with_name(f"{folder.name}.tmp")
    try:
        _all(peers, lambda: _begin(aside, durable, leads))
        shares = _all(peers, lambda: _write(aside, peers.rank, tensors))
        files = {share.pop("name"): share for share in shares if share}
        content = {"format": FORMAT, "step": step, **info, "files": files}
        _all(peers, lambda: _show(aside, folder, content) if leads else None)
    except BaseException:
        if leads:
            shutil.rmtree(aside, ignore_errors=True)  # a full disk gets its space back
        raise
    if leads:
        _retain(run, step, retention)
    return Checkpoint(folder, content)


def _all(peers: Peers, part: Callable[[], T]) -> list[T]:
    """What a part comes to on each process; the error of the first that failed, on all of them."""
    try:
        outcome: dict[str, Any] = {"is": part()}
    except (OSError, FloatingPointError) as error:
        outcome = {"error": f"rank {peers.rank} could not save a checkpoint: {error}"}
    outcomes = [json.loads(text) for text in peers.gather(json.dumps(outcome))]
    for each in outcomes:
        if "error" in each:
            raise OSError(each["error"])
    return [each["is"] for each in outcomes]


def _begin(aside: Path, durable: Sequence[Path], leads: bool) -> None:
    for path in durable:
        _sync(path)
    if not leads:
        return
    aside.parent.mkdir(exist_ok=True)
    for leftover in aside.parent.glob("*.tmp"):
        shutil.rmtree(leftover)
    aside.mkdir()


def _write(aside: Path, rank: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any] | None:
    """Writes a share; returns its name, size and hash, or None where there is nothing in it."""
    named = {f"{kind}/{name}": tensor for kind, of in tensors.items() for name, tensor in of.items()}
    if not named:
        return None
    for name, tensor in named.items():
        if not tensor.isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite, and no step can mend it: start a new --run with a lower optimizer.lr"
            )
    path = aside / f"part-{rank:04d}.safetensors"
    try:
        save_file(named, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from None
    _sync(path)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _show(aside: Path, folder: Path, content: Mapping[str, Any]) -> None:
    """Makes a checkpoint one: before the rename it is none, after it it is durable."""
    (aside / "checkpoint.json").write_text(json.dumps({**content, "sha256": _json_sha256(content)}, indent=1))
    _sync(aside / "checkpoint.json")
    _sync(aside)
    if folder.exists():  # one that latest() refused, or this run would not be here again
        _discard(folder)
    aside.rename(folder)
    _sync(folder.parent)


def _retain(run: Path, step: int, retention: Retention) -> None:
    """Drops what a roll-back or damage left behind, and what is no longer wanted."""
    steps = [_step_of(folder) for folder in published(run)]
    newer = [other for other in steps if other > step]
    for unwanted in newer + retention.unwanted([other for other in steps if other <= step]):
        _discard(folder_of(run, unwanted))


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Forces a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(folder: Path) -> None:
    """Removes a checkpoint, its name first: a kill half-way then leaves nothing that looks like one."""
    doomed = folder.rename(folder.with_name(f"{folder.name}.old.tmp"))
    shutil.rmtree(doomed)
