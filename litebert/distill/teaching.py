"""Has a teacher answer a folder of shards: sidecars, each published whole, and last of all the manifest.

OUTPUT/unfinished/ holds what was asked for, and an entry for each finished sidecar, until all are there. Any number of
processes share the work without a word between them: each takes its own shards, and whoever finds all finished writes
the manifest. What a process leaves that was killed has a name of its own, and is cleared away at the end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
from pathlib import Path

import torch

from data_tools.progress import Progress
from data_tools.shards import tar
from data_tools.text.huggingface import load_tokenizer
from litebert.data.split import Split
from litebert.distill import head, sidecar
from litebert.distill.answers import MICRO_TOKENS, Answering
from litebert.distill.codecs import CodecConfig, codec_of
from litebert.distill.sidecar import Sidecar, SoftManifest, Taught
from litebert.distill.teacher import DTYPES, Teacher

SPLITS = ("train", "heldout")
_UNFINISHED, _TAUGHT, _ASIDE = "unfinished", "taught.json", ".tmp"


@dataclasses.dataclass(frozen=True)
class TeachConfig:
    """How a teacher is asked.

    Attributes:
        copies: masked copies of the training split that it answers; none for all. Of the held-out split it is the
            first, which evaluation reads.
        precision: that it computes in, fp32 or bf16.
        seed: of draws, where the codec makes some.
    """

    copies: tuple[int, ...] = ()
    precision: str = "fp32"
    seed: int = 1


class Teaching:
    """A teacher, what it is asked, and the folder that its answers go to."""

    def __init__(
        self,
        location: str | Path,
        teacher: Path,
        output: Path,
        codec: CodecConfig,
        config: TeachConfig,
        device: torch.device,
    ) -> None:
        """Args:
        location: the folder of shards, a path or a URL.
        teacher: a run, a checkpoint, or a Hugging Face folder.
        output: the folder to make, or to go on with.
        device: that the teacher computes on.

        Raises ValueError where they do not fit together; nothing was written.
        """
        self._splits = [Split(location, name) for name in SPLITS]
        first = self._splits[0]
        with first.tokenizer() as folder:
            read = Teacher.load(teacher, load_tokenizer(folder).pieces)
        read.check_length(first.seq_length)
        if strange := [copy for copy in config.copies if not 0 <= copy < first.copies]:
            raise ValueError(f"--copies {strange[0]}: the masked copies of {location} are 0 to {first.copies - 1}")
        kept = codec_of(codec, read.model.config)
        self._head = head.pack(read.model) if kept.needs_head else None
        self.taught = Taught(
            data=first.fingerprint,
            content={split.name: split.content for split in self._splits},
            tokenizer=first.tokenizer_fingerprint,
            teacher=read.fingerprint,
            model=read.model.config,
            precision=config.precision,
            micro_tokens=MICRO_TOKENS,
            codec=codec,
            seed=config.seed,
            copies={"train": sorted(set(config.copies)) or list(range(first.copies)), "heldout": [0]},
            columns=sidecar.columns_of(kept),
            head=sidecar.sha256(self._head) if self._head else None,
        )
        self._answering = Answering(read.to(device, DTYPES[config.precision]), kept, config.seed)
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
        if not self._begin():
            return f"{self._output}: finished before"
        shards = [(split, shard) for split in self._splits for shard in split.shards]
        own = [(split, shard) for split, shard in shards[task::tasks] if self._finished(shard) is None]
        if (self._output / sidecar.FILE).is_file():  # of which another process just wrote the last
            return f"{self._output}: finished before"
        with Progress("teaching", "masked tokens", sum(self._masked(split, shard) for split, shard in own)) as progress:
            for split, shard in own:
                self._teach(split, shard, progress)
        left = self._publish()
        return f"{self._output}: {left} of {len(shards)} shards are others' to finish" if left else self._summary()

    def _begin(self) -> bool:
        """Makes the folder, or sees that it is this one; returns whether there is anything to do."""
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
            self._write(taught, json.dumps(self.taught.fields).encode())
        if self._head and not (self._output / head.FILE).is_file():
            self._write(self._output / head.FILE, self._head)
        return True

    def _match(self, path: Path) -> None:
        """Raises ValueError where a file says that the folder is of something else."""
        try:
            was = Taught.parse(json.loads(path.read_bytes()), str(path)).fields
        except json.JSONDecodeError:
            raise ValueError(f"{path} is not of soft targets: choose another --output") from None
        now = self.taught.fields
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

    def _masked(self, split: Split, shard: str) -> int:
        """Masked tokens that are answered."""
        blocks = split.shards[shard]
        begin, end = (int(split.block_samples[:block].sum()) for block in (blocks.start, blocks.stop))
        return sum(int(split.counts[copy][begin:end].sum()) for copy in self.taught.copies[split.name])

    def _teach(self, split: Split, shard: str, progress: Progress) -> None:
        name = sidecar.name_of(shard)
        aside, copies = self._aside(self._output / name), []
        number = shard.rpartition("-")[2].removesuffix(".tar")
        with tar.written(aside) as writer:
            for copy in self.taught.copies[split.name]:
                positions = []
                for place, block in enumerate(split.shards[shard]):
                    columns = split.columns(block, copy)
                    answers = self._answering.answers(columns, copy)
                    writer.write(f"{number}-{place:05d}", sidecar.members(answers, copy))
                    positions.append(len(columns.positions))
                    progress.advance(positions[-1])
                copies.append(sidecar.copy_of(name, writer, positions))
        os.replace(aside, self._output / name)
        entry = Sidecar(name, writer.bytes, writer.sha256, copies)
        self._write(self._unfinished / f"{shard}.json", json.dumps(dataclasses.asdict(entry)).encode())

    def _publish(self) -> int:
        """Writes the manifest if all sidecars are finished; returns how many are not."""
        found = {split.name: [self._finished(shard) for shard in split.shards] for split in self._splits}
        left = sum(split.count(None) for split in found.values())
        if (self._output / sidecar.FILE).is_file():  # another process was quicker
            return 0
        if not left:
            entries = {name: [entry for entry in split if entry] for name, split in found.items()}
            self._write(self._output / sidecar.FILE, SoftManifest(self.taught, entries).content())
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
        size, stated = sum(each.bytes for each in sidecars), self._answering.codec.bytes_per_position
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
