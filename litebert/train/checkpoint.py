"""Checkpoints in one format, whatever the world size and ZeRO stage: fp32 tensors by parameter name, and
JSON.

    RUN/checkpoints/step-00000200/
        weights.safetensors  exp_avg.safetensors  exp_avg_sq.safetensors
        checkpoint.json      step, fingerprints, recipe, ledger; size and SHA-256 of each file above, and its
        own

A checkpoint is written into ``step-00000200.tmp``, fsynced, and published by one rename. What a reader finds
under a name without ``.tmp`` was complete when it was published; whether it still is, its hashes tell. No
pickle anywhere, and nothing here needs DeepSpeed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
WEIGHTS = "weights"


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
        """All tensors of one kind by parameter name: fp32, on the CPU, in the parameter's shape."""
        return load_file(self.folder / f"{kind}.safetensors")


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


def latest(run: Path, report: Callable[[str], None] = print) -> Checkpoint | None:
    """The newest checkpoint of a run whose files are all as they were written; None if there is none.

    Args:
        run: the run folder.
        report: gets one line for each newer checkpoint that had to be passed over.
    """
    for folder in reversed(_published(run)):
        try:
            checkpoint = read(folder)
            _verify(checkpoint)
            return checkpoint
        except ValueError as error:
            report(f"skipping a damaged checkpoint: {error}")
    return None


def folder_of(run: Path, step: int) -> Path:
    """Where a run's checkpoint of a step lies, or would."""
    return run / "checkpoints" / f"step-{step:08d}"


def publish(
    run: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], info: Mapping[str, Any], keep: int
) -> Checkpoint:
    """Writes a checkpoint, makes it durable and visible in one rename, then drops those no longer wanted.

    Args:
        run: the run folder.
        step: optimizer steps done.
        tensors: by kind and parameter name: fp32, on the CPU, contiguous.
        info: what else checkpoint.json is to hold; its values are what json can write.
        keep: how many of the newest checkpoints stay, this one included.
    """
    folder = folder_of(run, step)
    folder.parent.mkdir(exist_ok=True)
    for leftover in folder.parent.glob("*.tmp"):
        shutil.rmtree(leftover)
    aside = folder.with_name(f"{folder.name}.tmp")
    aside.mkdir()
    try:
        files = {f"{kind}.safetensors": _write(aside, kind, named) for kind, named in tensors.items()}
        content = {"format": FORMAT, "step": step, **info, "files": files}
        signed = {**content, "sha256": _json_sha256(content)}
        (aside / "checkpoint.json").write_text(json.dumps(signed, indent=1))
        _sync(aside / "checkpoint.json")
        _sync(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # a full disk gets its space back
        raise
    if folder.exists():  # one that latest() refused, or this run would not be here again
        _discard(folder)
    aside.rename(folder)
    _sync(folder.parent)
    older = [other for other in _published(run) if other < folder]
    newer = [other for other in _published(run) if other > folder]
    for unwanted in newer + older[: max(0, len(older) - keep + 1)]:
        _discard(unwanted)
    return Checkpoint(folder, content)


def _published(run: Path) -> list[Path]:
    """Oldest first: the step is zero-padded, so names sort as numbers do."""
    return sorted(path for path in (run / "checkpoints").glob("step-*") if path.suffix != ".tmp")


def _write(folder: Path, kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    path = folder / f"{kind}.safetensors"
    save_file(dict(tensors), path)
    _sync(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _verify(checkpoint: Checkpoint) -> None:
    for name, expected in checkpoint.info["files"].items():
        path = checkpoint.folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing")
        if path.stat().st_size != expected["bytes"]:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, {expected['bytes']} were written")
        if _sha256(path) != expected["sha256"]:
            raise ValueError(f"{path} is not what was written: its SHA-256 differs")


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
