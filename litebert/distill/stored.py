"""A folder of stored soft targets, opened: what it is of, and any block's rows straight from their offset."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy.typing as npt
import torch

from data_tools.shards import blocks
from data_tools.shards.cache import Cache
from data_tools.shards.folder import Folder, LocalFolder
from data_tools.shards.reader import ShardReader
from litebert.data.split import Split, opened
from litebert.distill import head, sidecar
from litebert.distill.codecs import Codec, TeacherHead, codec_of
from litebert.distill.sidecar import REMEDY, SoftManifest, Taught


class SoftFolder:
    """Stored soft targets of one folder of shards.

    Attributes:
        location: a path or a URL.
        taught: what they are of.
        codec: that keeps them.
    """

    def __init__(self, location: str | Path, cache: Cache | None = None) -> None:
        """Raises ValueError where there are none, or they are not finished."""
        self.location = str(location)
        self._files: Folder = opened(location, cache)
        local = isinstance(self._files, LocalFolder)
        if local and not (Path(location) / sidecar.FILE).is_file():
            raise ValueError(
                f"{location}: no finished soft targets (no {sidecar.FILE}): make them, or go on with them, with "
                f"launcher/teach.py --output {location}"
            )
        self._manifest = SoftManifest.parse(self._files.whole(sidecar.FILE), f"{self.location}/{sidecar.FILE}")
        self.taught: Taught = self._manifest.taught
        self.codec: Codec = codec_of(self.taught.codec, self.taught.model)
        if sidecar.columns_of(self.codec) != {
            name: (kind, list(size)) for name, (kind, size) in self.taught.columns.items()
        }:
            raise ValueError(f"{self.location}: this version keeps {self.taught.codec.kind} in other columns: {REMEDY}")
        if local:
            self._check_sizes(Path(location))

    def head(self, device: torch.device, dtype: torch.dtype) -> TeacherHead | None:
        """The teacher's, where the codec needs it. Raises ValueError where it is not the one that was kept."""
        if not self.codec.needs_head:
            return None
        content = self._files.whole(head.FILE)
        if sidecar.sha256(content) != self.taught.head:
            raise ValueError(f"{self.location}/{head.FILE} is not the head of the teacher that was asked: put it back")
        return head.unpack(content, self.taught.model, device, dtype)

    def beside(self, split: Split) -> Split:
        """The split, read with the soft targets of its masked tokens.

        Raises ValueError where they are of other data or other masks, or not of all shards.
        """
        found = self.taught.content.get(split.name), self.taught.tokenizer
        if found != (split.content, split.tokenizer_fingerprint):
            raise ValueError(
                f"{self.location} answers other {split.name} samples or masks than those of {split.location}: give the "
                f"shards it was made with, or teach these: launcher/teach.py --data {split.location}"
            )
        wanted = [(sidecar.name_of(shard), len(own)) for shard, own in split.shards.items()]
        listed = [(each.name, len(each.copies[0].positions)) for each in self._manifest.splits[split.name]]
        for own, its in itertools.zip_longest(listed, wanted, fillvalue=("nothing", 0)):
            if own != its:
                raise ValueError(
                    f"{self.location}/{sidecar.FILE} is damaged: it lists {own[0]} of {own[1]} blocks where the shards "
                    f"of {split.name} want {its[0]} of {its[1]}: put it back, or {REMEDY}"
                )
        return split.reading(_Rows(self, split))

    def check_copies(self, split: Split, epochs: int) -> None:
        """Raises ValueError where it lacks a masked copy that so many epochs read."""
        needed = {epoch % split.copies for epoch in range(min(epochs, split.copies))}
        if missing := sorted(needed - set(self.taught.copies[split.name])):
            raise ValueError(
                f"{self.location} has copies {self.taught.copies[split.name]} of {split.name}, and epoch {missing[0]} "
                f"of this run reads copy {missing[0]}: teach it, launcher/teach.py --copies "
                f"{' '.join(map(str, sorted(needed)))}, or train for fewer steps"
            )

    def readers(self, split: Split) -> dict[int, list[ShardReader]]:
        """Of each sidecar, by copy."""
        return {
            copy: [ShardReader(self._files, each.copies[place], REMEDY) for each in self._manifest.splits[split.name]]
            for place, copy in enumerate(self.taught.copies[split.name])
        }

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return not isinstance(self._files, LocalFolder)

    def _check_sizes(self, folder: Path) -> None:
        for each in (each for split in self._manifest.splits.values() for each in split):
            path = folder / each.name
            if not path.is_file() or path.stat().st_size != each.bytes:
                raise ValueError(f"{path} is missing or cut off: put it back, or {REMEDY}")


class _Rows:
    """A split's, by block and copy: what ``Split.reading`` takes."""

    def __init__(self, folder: SoftFolder, split: Split) -> None:
        self.remote = folder.remote
        self._columns = folder.taught.columns
        self._readers = folder.readers(split)
        self._places = [
            (number, place) for number, own in enumerate(split.shards.values()) for place in range(len(own))
        ]

    def rows(self, block: int, copy: int) -> dict[str, npt.NDArray]:
        shard, place = self._places[block]
        reader = self._readers[copy][shard]
        members = reader.members(place)
        try:
            return {name: blocks.column(members, f"{name}.{copy}") for name in self._columns}
        except ValueError as error:
            raise ValueError(f"{reader.where(place)}: {error}") from error

    def check(self, block: int, copy: int) -> None:
        shard, place = self._places[block]
        self._readers[copy][shard].members(place)
