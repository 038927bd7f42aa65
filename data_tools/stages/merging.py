"""The runs of many parts become few, so that a shard opens hundreds of files, not one for each part of a terabyte."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_tools.samples import runs
from data_tools.samples.preparation import SPLITS
from data_tools.stages.totals import Totals
from data_tools.work import Work

FAN_IN = 256


@dataclasses.dataclass(frozen=True)
class Merging:
    """An item is the runs of consecutive parts. It leaves ``SPLIT``, one run. There are no items where there are
    no more parts than one item would take.

    Attributes:
        work: the work folder.
        sampled: the stage that left the runs.
        fan_in: parts of an item.
    """

    work: Work
    sampled: str
    fan_in: int = FAN_IN
    name: str = "merging"

    def items(self) -> list[str]:
        """Numbers of the groups of parts."""
        parts = len(self.work.finished(self.sampled))
        return [f"{number:05d}" for number in range(-(-parts // self.fan_in))] if parts > self.fan_in else []

    def run(self, item: str, folder: Path) -> None:
        """Merge the runs of a group."""
        first = Totals.load(self.work).first
        begin = int(item) * self.fan_in
        parts = self.work.finished(self.sampled)[begin : begin + self.fan_in]
        for split in SPLITS:
            paths = {part: self.work.path(self.sampled, part) / split for part in parts}
            if found := [(path, first[part]) for part, path in paths.items() if runs.exists(path)]:
                runs.merge(found, folder / split)

    def runs(self, split: str) -> list[tuple[Path, int]]:
        """The runs of a split that shards are made of, each with the number of its first document, once all are
        there."""
        if merged := self.work.finished(self.name):
            found = [(self.work.path(self.name, item) / split, 0) for item in merged]
        else:
            first = Totals.load(self.work).first
            found = [(self.work.path(self.sampled, part) / split, first[part]) for part in first]
        return [(path, number) for path, number in found if runs.exists(path)]
