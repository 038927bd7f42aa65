"""Has a teacher answer a folder of shards: sidecars, each published whole, and last of all the manifest.

OUTPUT/unfinished/ holds what was asked for, an entry for each finished sidecar, and single blocks that a service was
asked for, until their sidecar is there. Any number of processes share the work without a word between them: each takes
its own shards, and whoever finds all finished writes the manifest. What a process leaves that was killed has a name of
its own, and is cleared away at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy.typing as npt

from data_tools.progress import Progress
from data_tools.shards import blocks, tar
from data_tools.shards.reader import ShardReader
from litebert.data.split import Split
from litebert.distill import head, sidecar
from litebert.distill.lesson import Lesson
from litebert.distill.message import Asked, read, written
from litebert.distill.sidecar import Sidecar, SoftManifest, Taught

_UNFINISHED, _TAUGHT, _ASIDE = "unfinished", "taught.json", ".tmp"


class Teaching:
    """A lesson, and the folder that its answers go to."""

    def __init__(self, lesson: Lesson, output: Path) -> None:
        """``output``: the folder to make, or to go on with."""
        self._lesson, self._splits = lesson, tuple(lesson.splits.values())
        self._output, self._unfinished = output, output / _UNFINISHED

    def run(self, task: int = 0, tasks: int = 1) -> str:
        """Answers one share of the shards, those that are not finished, and publishes all if they are the last.

        Killed at any moment, it can be run again.

        Args:
            task, tasks: which share, from 0, of how many; of another number another time, if you like.

        Returns:
            what there is to say of it, in a line.

        Raises:
            ValueError: the folder holds something else; nothing was changed.
            OSError: it cannot be written.
        """
        if not self.begin():
            return f"{self._output}: finished before"
        shards = [(split, shard) for split in self._splits for shard in split.shards]
        own = [(split, shard) for split, shard in shards[task::tasks] if self._finished(shard) is None]
        if self.is_finished:  # of which another process just wrote the last
            return f"{self._output}: finished before"
        total = sum(self._lesson.masked(asked) for split, shard in own for asked in self._asked(split, shard))
        with Progress("teaching", "masked tokens", total) as progress:
            for split, shard in own:
                self._teach(split, shard, progress.advance)
        left = self._publish()
        return f"{self._output}: {left} of {len(shards)} shards are others' to finish" if left else self._summary()

    @property
    def is_finished(self) -> bool:
        """Whether the folder has its manifest."""
        return (self._output / sidecar.FILE).is_file()

    def recorded(self, asked: Asked) -> dict[str, npt.NDArray] | None:
        """Answers to a block, recorded by themselves or in a sidecar; None where there are none that can be read."""
        for place in (self._of_block, self._of_sidecar):  # another process may put them from the one into the other
            with contextlib.suppress(OSError, ValueError):
                if (answers := place(asked)) is not None:
                    return answers
        return None

    def _of_block(self, asked: Asked) -> dict[str, npt.NDArray]:
        return read(self._path(asked), asked, self._lesson.masked(asked))

    def _of_sidecar(self, asked: Asked) -> dict[str, npt.NDArray] | None:
        copies, (_, shard, place) = self._lesson.taught.copies[asked.split], self._place(asked)
        if asked.copy not in copies or (entry := self._finished(shard)) is None:
            return None
        members = ShardReader(self._output, entry.copies[copies.index(asked.copy)]).members(place)
        return {name: blocks.column(members, f"{name}.{asked.copy}") for name in self._lesson.taught.columns}

    def record(self, asked: Asked, answers: Mapping[str, npt.NDArray]) -> None:
        """Keeps answers to a block, and makes the shard's sidecar of them when they are its last, and the manifest.

        Raises OSError where they cannot be written.
        """
        split, shard, _ = self._place(asked)
        if self._finished(shard) is not None:
            return
        path = self._path(asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._aside(path)
        aside.write_bytes(written(asked, answers))
        os.replace(aside, path)
        if self.is_finished:  # another process was quicker
            self._clear()
            return
        if all(self._path(each).is_file() for each in self._asked(split, shard)):
            self._teach(split, shard, lambda masked: None)
            self._publish()

    def _place(self, asked: Asked) -> tuple[Split, str, int]:
        """Split and shard of a block, and which of the shard's blocks it is."""
        split = self._lesson.splits[asked.split]
        shard, own = next((name, own) for name, own in split.shards.items() if asked.block in own)
        return split, shard, asked.block - own.start

    def _path(self, asked: Asked) -> Path:
        return self._unfinished / "blocks" / f"{asked.split}-{asked.block:07d}-{asked.copy}.arrow"

    def begin(self) -> bool:
        """Makes the folder, or sees that it is this one; returns whether there is anything to do.

        Raises as ``run``.
        """
        finished, taught = self._output / sidecar.FILE, self._unfinished / _TAUGHT
        if finished.is_file():
            self._match(finished)
            self._clear()
            return False
        if taught.is_file():
            self._match(taught)
        elif self._output.exists() and any(self._output.iterdir()) and not self._unfinished.is_dir():
            raise ValueError(f"{self._output} holds something that is no soft targets: choose another --output")
        else:
            self._unfinished.mkdir(parents=True, exist_ok=True)
            self._write(taught, json.dumps(self._lesson.taught.fields).encode())
        if self._lesson.head and not (self._output / head.FILE).is_file():
            self._write(self._output / head.FILE, self._lesson.head)
        return True

    def _match(self, path: Path) -> None:
        """Raises ValueError where a file says that the folder is of something else."""
        try:
            was = Taught.parse(json.loads(path.read_bytes()), str(path)).fields
        except json.JSONDecodeError:
            raise ValueError(f"{path} is not of soft targets: choose another --output") from None
        now = self._lesson.taught.fields
        was, now = ({**fields, **fields["codec"], **fields["model"]} for fields in (was, now))
        differing = [
            f"{key} was {was.get(key)}, now {now.get(key)}"
            for key in sorted(was.keys() | now.keys())
            if key not in ("codec", "model", "columns") and was.get(key) != now.get(key)
        ]
        if differing:
            raise ValueError(
                f"{path} is of other soft targets: {'; '.join(differing)}: go back to that, or choose another --output"
            )

    def _finished(self, shard: str) -> Sidecar | None:
        """The sidecar of a shard; None where it is not there yet."""
        try:
            entry = Sidecar.parse(json.loads((self._unfinished / f"{shard}.json").read_bytes()))
            return entry if (self._output / entry.name).stat().st_size == entry.bytes else None
        except FileNotFoundError:
            return None

    def _asked(self, split: Split, shard: str) -> Iterator[Asked]:
        """Of whom each block is asked, copy by copy."""
        of = self._lesson.taught.answered
        for copy in self._lesson.taught.copies[split.name]:
            yield from (Asked(of, split.name, block, copy) for block in split.shards[shard])

    def _teach(self, split: Split, shard: str, advance: Callable[[int], object]) -> None:
        name = sidecar.name_of(shard)
        aside, copies = self._aside(self._output / name), []
        number = shard.rpartition("-")[2].removesuffix(".tar")
        with tar.written(aside) as writer:
            for copy in self._lesson.taught.copies[split.name]:
                positions = []
                for place, block in enumerate(split.shards[shard]):
                    asked = Asked(self._lesson.taught.answered, split.name, block, copy)
                    answers = self.recorded(asked) or self._lesson.answers(asked)
                    writer.write(f"{number}-{place:05d}", sidecar.members(answers, copy))
                    positions.append(self._lesson.masked(asked))
                    advance(positions[-1])
                copies.append(sidecar.copy_of(name, writer, positions))
        os.replace(aside, self._output / name)
        entry = Sidecar(name, writer.bytes, writer.sha256, copies)
        self._write(self._unfinished / f"{shard}.json", json.dumps(dataclasses.asdict(entry)).encode())
        for asked in self._asked(split, shard):  # which would be kept twice
            self._path(asked).unlink(missing_ok=True)

    def _publish(self) -> int:
        """Writes the manifest if all sidecars are finished; returns how many are not."""
        found = {split.name: [self._finished(shard) for shard in split.shards] for split in self._splits}
        left = sum(split.count(None) for split in found.values())
        if self.is_finished:  # another process was quicker
            return 0
        if not left:
            entries = {name: [entry for entry in split if entry] for name, split in found.items()}
            self._write(self._output / sidecar.FILE, SoftManifest(self._lesson.taught, entries).content())
            self._clear()
        return left

    def _clear(self) -> None:
        """Of what a finished folder does not need."""
        shutil.rmtree(self._unfinished, ignore_errors=True)
        for path in self._output.glob(f"*{_ASIDE}"):
            path.unlink(missing_ok=True)

    def _summary(self) -> str:
        manifest = SoftManifest.parse((self._output / sidecar.FILE).read_bytes(), str(self._output))
        sidecars = [each for split in manifest.splits.values() for each in split]
        positions = sum(sum(copy.positions) for each in sidecars for copy in each.copies)
        size, stated = sum(each.bytes for each in sidecars), self._lesson.bytes_per_position
        return (
            f"{self._output}: answers to {positions:,} masked tokens in {size / 1e6:,.1f} MB, "
            f"{size / max(1, positions):.1f} bytes each ({stated} by the codec), {len(sidecars)} sidecars"
        )

    def _aside(self, path: Path) -> Path:
        """What a file is called until it is whole; no two processes call it alike."""
        return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}{_ASIDE}")

    def _write(self, path: Path, content: bytes) -> None:
        """A file by one rename, durably, and with it all renames before."""
        aside = self._aside(path)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        for folder in {self._output, path.parent}:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
