"""Runs become shards, each of one range of the samples' keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from data_tools.samples.masks import MaskConfig
from data_tools.samples.preparation import SPLITS
from data_tools.samples.runs import KEYS, gather
from data_tools.shards.assembly import ShardConfig, assemble
from data_tools.shards.manifest import Shard
from data_tools.stages.cleaning import tokenizer_of
from data_tools.stages.merging import Merging
from data_tools.stages.totals import Totals
from data_tools.work import Work, load_json, save_json

_ENTRY = "shard.json"


@dataclasses.dataclass(frozen=True)
class Assembling:
    """An item is a shard. It leaves the tar, its manifest entry, and its columns of the split's index as numpy files,
    ``places.npy`` among them: int64 [samples], the number of each sample's document in the corpus. It leaves nothing
    where chance gave its range of keys to no sample.

    Attributes:
        work: the work folder.
        runs: where the samples lie.
        masks: how they are masked.
        shards: how they lie in files.
        seed: of the masks.
    """

    work: Work
    runs: Merging
    masks: MaskConfig
    shards: ShardConfig
    seed: int
    name: str = "assembling"

    def items(self) -> list[str]:
        """The names of the shards, in order."""
        return [name for split in SPLITS for name in self.of_split(split)]

    def of_split(self, split: str) -> list[str]:
        """The names of a split's shards, in order."""
        count = -(-Totals.load(self.work).total(split, "samples") // self.shards.samples_per_shard)
        return [f"{split}-{number:05d}" for number in range(count)]

    def run(self, item: str, folder: Path) -> None:
        """Write a shard."""
        split, _, written = item.partition("-")
        number, count = int(written), len(self.of_split(split))
        run = gather(self.runs.runs(split), (number * KEYS) // count, ((number + 1) * KEYS) // count)
        samples = run.samples
        if not len(samples):
            return
        vocabulary = tokenizer_of(self.work.folder).vocabulary
        corpus = Totals.unigram(self.work, "train")
        path = folder / f"{item}.tar"
        made = assemble(path, samples, number, self.masks, self.shards, vocabulary, self.seed, corpus)
        for name, column in {**made.columns, "places": run.places}.items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)
        save_json(folder / _ENTRY, dataclasses.asdict(made.shard))

    def shard(self, item: str) -> Shard | None:
        """The manifest entry of a finished shard, None if it is empty."""
        folder = self.work.path(self.name, item)
        return Shard(**load_json(folder / _ENTRY)) if (folder / _ENTRY).exists() else None
