"""Answers that come with the data, whether they were stored or are sent: a folder of them for each folder of shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch

from data_tools.shards.cache import Cache
from litebert.data.corpus import Corpus
from litebert.data.mixture import Mixture
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.distill.codecs import Codec, TeacherHead
from litebert.distill.fleet import Fleet, FleetFolder
from litebert.distill.sidecar import Taught
from litebert.distill.stored import SoftFolder


class AnswerFolder(Protocol):
    """Answers to one folder of shards, of which all methods raise ValueError where they are not what is needed.

    Attributes:
        location: for messages.
        taught: what they are of.
        codec: that they come in.
    """

    location: str
    taught: Taught
    codec: Codec

    def head(self, device: torch.device, dtype: torch.dtype) -> TeacherHead | None:
        """The teacher's, where the codec needs it."""

    def beside(self, split: Split) -> Split:
        """The split, read with the soft targets of its masked tokens."""

    def check_copies(self, split: Split, epochs: int) -> None:
        """That it has every masked copy that so many epochs read."""


@dataclasses.dataclass(frozen=True)
class SoftData:
    """The answers to a run's folders of shards, one folder for each, of one teacher and one codec.

    Attributes:
        folders: of answers.
        fleet: of those that are sent, who sends them.
    """

    folders: tuple[AnswerFolder, ...]
    fleet: Fleet | None = None

    def __post_init__(self) -> None:
        first, *others = self.folders
        for other in others:
            for name in ("teacher", "codec", "precision", *["seed"] * (first.codec.config.kind == "sampled")):
                if (own := getattr(first.taught, name)) != (its := getattr(other.taught, name)):
                    raise ValueError(
                        f"{other.location} is of {name} {its}, {first.location} of {own}: teach both alike"
                    )

    @classmethod
    def stored(cls, locations: Sequence[str], corpus: Corpus, cache: Cache | None = None) -> SoftData:
        """Raises ValueError where they are not one for each folder of data, or of several teachers or codecs."""
        if len(locations) != len(corpus.splits):
            raise ValueError(f"--soft names {len(locations)} folders, --data {len(corpus.splits)}: give one for each")
        return cls(tuple(SoftFolder(location, cache) for location in locations))

    @classmethod
    def sent(cls, fleet: Fleet, corpus: Corpus) -> SoftData:
        """Raises ValueError where nobody answers for a folder, or several teachers or codecs do."""
        return cls(tuple(FleetFolder(fleet, split) for split in corpus.splits), fleet)

    @property
    def first(self) -> AnswerFolder:
        """Which says of teacher and codec what all say."""
        return self.folders[0]

    def __str__(self) -> str:
        """Of a line on the terminal."""
        config, bytes_ = self.first.taught.codec, self.first.codec.bytes_per_position
        where = ", ".join(dict.fromkeys(folder.location for folder in self.folders))
        return f"codec {config.kind}, {config.bits} bits, {bytes_} bytes a masked token, from {where}"

    def figures(self) -> dict[str, float]:
        """teacher_busy, as ``Fleet.busy``, where it is known."""
        busy = self.fleet.busy() if self.fleet else None
        return {} if busy is None else {"teacher_busy": busy}

    def beside(self, corpus: Corpus) -> Corpus:
        """The corpus, read with them. Raises ValueError where they are of other data or masks."""
        return Corpus([own.beside(split) for own, split in zip(self.folders, corpus.splits, strict=True)])

    def check_plan(self, corpus: Corpus, config: DataConfig, steps: int) -> None:
        """Raises ValueError where a masked copy is missing that the steps of a run read."""
        sizes = [split.samples for split in corpus.splits]
        taken = Mixture(sizes, config.mixture, config.global_batch).taken(steps).tolist()
        for folder, split, samples in zip(self.folders, corpus.splits, taken, strict=True):
            folder.check_copies(split, -(-samples // split.samples))
