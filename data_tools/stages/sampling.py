"""Kept parts become runs of samples: split, repeated by their source's weight, tokenized, paired, sorted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from data_tools.dedup.verdict import Deduplicated
from data_tools.documents.document import Document
from data_tools.documents.mixture import MixConfig
from data_tools.documents.parts import Dropped, write_dropped
from data_tools.samples import runs
from data_tools.samples.pairs import PairConfig
from data_tools.samples.preparation import SPLITS, Text, samples_of, split_of
from data_tools.shards.assembly import unigram
from data_tools.shards.keyed_rng import key_of
from data_tools.stages.cleaning import tokenizer_of
from data_tools.stages.sources import load_sources
from data_tools.text.words import Segmenter
from data_tools.work import Work, load_json, save_json

LEFT_OUT = "mix"
_COUNTS = "samples.json"


@dataclasses.dataclass(frozen=True)
class Sampling:
    """An item is a kept part. It leaves, for each split that has any, the run ``SPLIT`` of samples, and
    ``SPLIT.unigram.npy``, int64 [vocabulary], how often each id occurs as text; counts; and which documents are left
    out, as copies or evaluation text or by the mix.

    Attributes:
        work: the work folder.
        kept: the kept parts, without what is there twice.
        mix: how often each source's documents are taken.
        heldout_share: of the documents of a source that the mix does not name.
        segmenter: finds the words.
        pairs: how documents become samples.
        seed: of the split, the mix, the pairs and the order.
    """

    work: Work
    kept: Deduplicated
    mix: MixConfig
    heldout_share: float
    segmenter: Segmenter
    pairs: PairConfig
    seed: int
    name: str = "sampling"

    def items(self) -> list[str]:
        """The kept parts."""
        return self.kept.parts()

    def run(self, item: str, folder: Path) -> None:
        """Make the samples of a part."""
        part = self.kept.load(item)
        numbers = {name: number for number, name in enumerate(load_sources(self.work))}
        tokenizer = tokenizer_of(self.work.folder)
        texts: dict[str, list[Text]] = {split: [] for split in SPLITS}
        counts = SampleCounts()
        dropped = list(part.dropped)
        for place, document in zip(part.places, part.documents, strict=True):
            split = split_of(document.text, self.mix.heldout.get(document.source, self.heldout_share), self.seed)
            copies = self._copies(document, split)
            if not copies:
                dropped.append(Dropped(place, LEFT_OUT, f"{document.source}: {self.mix.weights[document.source]}"))
                continue
            counts.documents[split, document.source] += 1
            counts.characters[split, document.source] += len(document.text)
            texts[split] += [
                Text(document.text, key_of(document.id, document.text, copy), numbers[document.source], place)
                for copy in range(copies)
            ]
        for split, of_split in texts.items():
            of_ids = np.zeros(tokenizer.vocab_size, np.int64)
            by_source = np.zeros(len(numbers), np.int64)
            made = []
            for samples, places in samples_of(of_split, tokenizer, self.segmenter, self.pairs, self.seed):
                made.append(runs.Run.of(samples, places, self.seed, tokenizer.vocab_size))
                of_ids += unigram(samples.ids, tokenizer.vocabulary)
                by_source += np.bincount(samples.sources, minlength=len(by_source))
            if made:
                runs.save(folder / split, made)
                np.save(folder / f"{split}.unigram.npy", of_ids, allow_pickle=False)
                counts.samples.update({(split, name): int(by_source[n]) for name, n in numbers.items() if by_source[n]})
        write_dropped(folder, dropped)
        counts.save(folder)

    def _copies(self, document: Document, split: str) -> int:
        """How often a document is taken: the whole part of its weight, and once more with the chance of the rest."""
        weight = self.mix.weights.get(document.source, 1.0)
        rest = weight - int(weight)
        copies = int(weight) + (rest > 0 and key_of(self.seed, "mix", document.text) < rest * 2**64)
        return min(copies, 1) if split == "heldout" else copies


@dataclasses.dataclass(frozen=True)
class SampleCounts:
    """Documents, their characters, and samples, by split and source. A document counts once, however often taken."""

    documents: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    characters: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    samples: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)

    def add(self, other: SampleCounts) -> None:
        """Count those of another part too."""
        self.documents.update(other.documents)
        self.characters.update(other.characters)
        self.samples.update(other.samples)

    def of(self, split: str) -> dict[str, dict[str, int]]:
        """Those of a split: by source, by what is counted."""
        sources = sorted(source for of_split, source in self.documents if of_split == split)
        names = [field.name for field in dataclasses.fields(self)]
        return {source: {name: getattr(self, name)[split, source] for name in names} for source in sources}

    def save(self, folder: Path) -> None:
        """Write them into a folder."""
        save_json(folder / _COUNTS, {split: self.of(split) for split in SPLITS})

    @classmethod
    def load(cls, folder: Path) -> SampleCounts:
        """Those in a folder."""
        return cls.of_splits(load_json(folder / _COUNTS))

    @classmethod
    def of_splits(cls, splits: dict[str, dict[str, dict[str, int]]]) -> SampleCounts:
        """The counts whose ``of`` each split is given."""
        counts = cls()
        for split, sources in splits.items():
            for source, by_name in sources.items():
                for name, count in by_name.items():
                    getattr(counts, name)[split, source] = count
        return counts
