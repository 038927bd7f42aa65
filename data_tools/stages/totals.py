"""What the whole corpus came to, once all samples are made: what became of every document, and the counts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.documents.parts import rejected_counts
from data_tools.samples.preparation import SPLITS
from data_tools.stages.cleaning import ReadCounts
from data_tools.stages.sampling import SampleCounts
from data_tools.stages.sources import ALL
from data_tools.work import Work, load_json, save_json

_FILE = "totals.json"
_NAME = "totals"


@dataclasses.dataclass(frozen=True)
class Totals:
    """Sums over a corpus.

    Attributes:
        read: documents, and what was rejected in place of one.
        broken_bytes: in them.
        rejected: by reason.
        splits: by split and source: documents, characters, samples.
        first: by part, the number of its first document in the corpus.
    """

    read: int
    broken_bytes: int
    rejected: dict[str, int]
    splits: dict[str, dict[str, dict[str, int]]]
    first: dict[str, int]

    def total(self, split: str, what: str) -> int:
        """Of all sources of a split."""
        return sum(by_name[what] for by_name in self.splits[split].values())

    @classmethod
    def load(cls, work: Work) -> Totals:
        """Those of a build whose totals are finished."""
        return cls(**load_json(work.path(_NAME, ALL) / _FILE))

    @staticmethod
    def unigram(work: Work, split: str) -> npt.NDArray[np.int64]:
        """How often each id occurs as text in a split: int64 [vocabulary]."""
        return np.load(work.path(_NAME, ALL) / f"{split}.unigram.npy", allow_pickle=False)


@dataclasses.dataclass(frozen=True)
class Totalling:
    """One item, which leaves the totals and ``SPLIT.unigram.npy``.

    Attributes:
        work: the work folder.
        dropping: the stages that do not keep every document, in order; the first counted what was read, the last
            made the samples.
        described: the input, for messages.
    """

    work: Work
    dropping: tuple[str, ...]
    described: str
    name: str = _NAME

    def items(self) -> list[str]:
        """The one."""
        return [ALL]

    def run(self, item: str, folder: Path) -> None:
        """Sum up. Raises ValueError where a split has no samples."""
        cleaned, sampled = self.dropping[0], self.dropping[-1]
        read = broken_bytes = 0
        rejected: Counter[str] = Counter()
        counts = SampleCounts()
        unigrams: dict[str, npt.NDArray[np.int64]] = {}
        first = {}
        for part in self.work.finished(cleaned):
            first[part] = read
            of_part = ReadCounts.load(self.work.path(cleaned, part))
            read += of_part.items
            broken_bytes += of_part.broken_bytes
            rejected.update(of_part.unread)
            for stage in self.dropping:
                rejected.update(rejected_counts(self.work.path(stage, part)))
            samples = self.work.path(sampled, part)
            counts.add(SampleCounts.load(samples))
            for split in SPLITS:
                if (path := samples / f"{split}.unigram.npy").exists():
                    unigram = np.load(path, allow_pickle=False)
                    unigrams[split] = unigrams[split] + unigram if split in unigrams else unigram
        totals = Totals(read, broken_bytes, dict(rejected), {split: counts.of(split) for split in SPLITS}, first)
        self._check(totals)
        for split, unigram in unigrams.items():
            np.save(folder / f"{split}.unigram.npy", unigram, allow_pickle=False)
        save_json(folder / _FILE, dataclasses.asdict(totals))

    def _check(self, totals: Totals) -> None:
        if empty := [split for split in SPLITS if not totals.total(split, "samples")]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.rejected.items())) or "none"
            raise ValueError(
                f"no Chinese text for the {' or '.join(empty)} split: {totals.read} documents read from"
                f" {self.described}, rejected: {reasons}; give more text"
                " (a plain text file is one document unless blank lines part it:"
                " --reader.plain_text line, in the demo PLAIN_TEXT=line)"
            )
        kept = sum(totals.total(split, "documents") for split in SPLITS)
        if totals.read != kept + sum(totals.rejected.values()):
            raise RuntimeError(f"{totals.read} documents read, {kept} kept, rejected {totals.rejected}: one is lost")
