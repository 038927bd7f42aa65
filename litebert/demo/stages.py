"""Stages of a run folder: each makes one file or folder with one command, and is run once for its inputs.

A stage is known by its fingerprint: its arguments, the content of the files among them, the code that runs.
`stages.json` keeps, by output, the fingerprint and a digest of what came out. Later stages see that digest
only, so a change upstream that leaves a result as it was ends there.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = "{output}"
PATIENCE = 120.0  # seconds that a training gets to end in order, its checkpoint included


@dataclass(frozen=True)
class Stage:
    """One command and the file or folder it makes.

    Attributes:
        output: the result's name in the run folder.
        program: how the work is started and spread over the machine; it cannot matter, and is not hashed.
        source: the script that runs; hashed, with all of this repository that it imports.
        arguments: the rest of the command line: strings are hashed, Paths by content; OUTPUT is the result.
        work: the amount of work in a result, and its unit.
        done: the file that says it is finished, for a training, which goes on by itself in its own folder.
        environment: variables the command needs.
    """

    output: str
    program: tuple[str, ...]
    source: Path
    arguments: tuple[str | Path, ...]
    work: Callable[[Path], tuple[float, str]]
    done: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


class Stages:
    """The stages of a run folder; `records` is what stages.json holds, with a digest for finished ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / "stages.json"
        self.records: dict[str, dict[str, Any]] = {}
        if self._journal.exists():
            self.records = json.loads(self._journal.read_text())

    def run(self, stage: Stage) -> None:
        """Runs a stage unless its result is there already. Raises CalledProcessError if it fails."""
        fingerprint, target = self._fingerprint(stage), self.folder / stage.output
        if stage.done:
            self._set_aside(stage.output, fingerprint)
        record = self.records.get(stage.output, {})
        if record.get("fingerprint") != fingerprint or not target.exists():
            record = {"fingerprint": fingerprint, "seconds": 0.0}
        if record.get("digest", "") and record["digest"] != digest(target):
            print(f"{stage.output}: not as it was made; made again", flush=True)
            record = {"fingerprint": fingerprint, "seconds": 0.0}
        if "digest" in record:
            print(f"{stage.output}: done before in {clock(record['seconds'])}; same input, settings, code")
            return

        print(f"{stage.output} ...", flush=True)
        self._note(stage.output, record)  # unfinished, wherever the lines below are cut off
        aside = self.folder / ".partial"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        place = target if stage.done else aside / stage.output
        begin = time.monotonic()
        try:
            self._execute(stage, place)
        finally:
            record["seconds"] = time.monotonic() - begin + (record["seconds"] if stage.done else 0.0)
            self._note(stage.output, record)
        if not stage.done:
            if target.exists():
                target.rename(aside / "replaced")
            place.rename(target)
        shutil.rmtree(aside)
        self._note(stage.output, record | {"digest": digest(target)})
        amount, unit = stage.work(target)
        rate = amount / record["seconds"]
        print(f"{stage.output}: {clock(record['seconds'])}, {rate:,.1f} {unit}/s", flush=True)

    def _fingerprint(self, stage: Stage) -> str:
        made = {self.folder / output: record.get("digest") for output, record in self.records.items()}
        parts = [stage.output, code(stage.source)]
        for part in stage.arguments:
            parts.append(made.get(part) or digest(part) if isinstance(part, Path) else part)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _set_aside(self, output: str, fingerprint: str) -> None:
        """Keeps a training of other inputs as `<output>-<its fingerprint>`, brings back one of these."""
        old = self.records.get(output, {}).get("fingerprint", fingerprint)
        if old != fingerprint:
            self._rename(output, f"{output}-{old[:8]}")
            self._rename(f"{output}-{fingerprint[:8]}", output)

    def _rename(self, old: str, new: str) -> None:
        if (self.folder / old).exists():
            (self.folder / old).rename(self.folder / new)
            print(f"{old}: kept as {new}", flush=True)
        if record := self.records.pop(old, None):
            self._note(new, record)

    def _note(self, output: str, record: dict[str, Any]) -> None:
        self.records[output] = dict(record)
        aside = self._journal.with_suffix(".new")
        aside.write_text(json.dumps(self.records, indent=1))
        aside.replace(self._journal)

    def _execute(self, stage: Stage, place: Path) -> None:
        process = subprocess.Popen(
            [*stage.program, *(str(place) if part == OUTPUT else str(part) for part in stage.arguments)],
            env=os.environ | stage.environment,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C comes to us alone
        )
        try:
            status = process.wait()
        except KeyboardInterrupt:
            stop(process, gently=bool(stage.done))
            raise
        # DeepSpeed's launcher exits 0 after some failures: a training is finished when it says so.
        if status or not (place / stage.done).exists():
            raise subprocess.CalledProcessError(status or 1, stage.output)


def stop(process: subprocess.Popen[bytes], gently: bool) -> None:
    """Ends a command and all its children; gently: the ranks of a training get SIGTERM first, to save it.

    The ranks are the grandchildren: `deepspeed` starts `deepspeed.launcher.launch`, and that starts them; a
    signal to the first would leave them orphaned. A second Ctrl-C ends the wait.
    """
    try:
        launchers = psutil.Process(process.pid).children() if gently else []
        if ranks := [rank for launcher in launchers for rank in launcher.children()]:
            print("\nstopping; the training saves a checkpoint first (or press Ctrl-C again)", flush=True)
            for rank in ranks:
                rank.terminate()
            process.wait(PATIENCE)
    except (subprocess.TimeoutExpired, psutil.NoSuchProcess, KeyboardInterrupt):
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def digest(path: Path) -> str:
    """SHA-256 over a file's bytes, or the names and bytes of all files in a folder, in hex."""
    total = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
        with open(file, "rb") as stream:
            total.update(f"{file.relative_to(path)}\n".encode())
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def code(source: Path) -> str:
    """SHA-256 over the syntax trees of a script and all it imports here, in hex: comments change nothing."""
    trees = sources(source)
    return hashlib.sha256("\n".join(ast.dump(trees[file]) for file in sorted(trees)).encode()).hexdigest()


def sources(script: Path) -> dict[Path, ast.Module]:
    """A script, and every file of this repository that it imports, directly or not, as syntax trees."""
    trees: dict[Path, ast.Module] = {}
    pending = [script]
    while pending:
        if (file := pending.pop()) not in trees:
            trees[file] = ast.parse(file.read_bytes())
            pending += imported(trees[file])
    return trees


def imported(tree: ast.Module) -> Iterator[Path]:
    """The files of this repository that a module's import statements name, with the packages they lie in."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = REPOSITORY.joinpath(*parts[:depth])
            yield from filter(Path.is_file, (module.with_suffix(".py"), module / "__init__.py"))


def clock(seconds: float) -> str:
    """A time for the reader: `4.2 s`, `5 min 07 s`."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
