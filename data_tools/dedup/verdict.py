"""What becomes of each document: kept, cut, or dropped with a reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.dedup.config import DedupConfig
from data_tools.dedup.corpus import Corpus, save
from data_tools.dedup.repeats import repeats_of
from data_tools.documents.parts import Dropped, KeptPart

NOTHING_NEW = "nothing new"
EVALUATION_TEXT = "evaluation text"
_NEAR, _DUPLICATE, _EVALUATION = 1, 2, 3
_REASONS = ("", "near duplicate", "duplicate", EVALUATION_TEXT)


@dataclasses.dataclass(frozen=True)
class Survivors:
    """A stage: which documents of each part are dropped whole, once all copies are found.

    Attributes:
        corpus: the documents.
        config: what was looked for.
    """

    corpus: Corpus
    config: DedupConfig
    name: str = "survivors"

    def items(self) -> list[str]:
        """The parts."""
        return list(self.corpus.parts)

    def run(self, item: str, folder: Path) -> None:
        """Write the reason of each document, uint8, and the position of the one that it repeats, uint64, or its own."""
        documents = len(self.corpus.column(item, "id"))
        reasons = np.zeros(documents, np.uint8)
        firsts = self.corpus.positions(item, np.arange(documents))
        # The later one has the last word: an exact copy is called that, though it is a near one too.
        for wanted, stage, reason in ((self.config.near, "clusters", _NEAR), (self.config.exact, "exact", _DUPLICATE)):
            if wanted:
                rows, of = repeats_of(self.corpus, stage, item)
                reasons[rows], firsts[rows] = reason, of
        if self.config.evaluation.files:
            reasons[self.corpus.array("contamination", item, "dropped")] = _EVALUATION
        save(folder, {"reasons": reasons, "firsts": firsts})


@dataclasses.dataclass(frozen=True)
class Deduplicated:
    """The parts of a corpus without what is not to be learnt from.

    Attributes:
        corpus: the documents.
        config: what is left out.
    """

    corpus: Corpus
    config: DedupConfig

    def parts(self) -> list[str]:
        """The names of the parts, in order."""
        return list(self.corpus.parts)

    def load(self, part: str) -> KeptPart:
        """A part; what is dropped of it says why, and the id of what it repeats."""
        before = KeptPart.load(self.corpus.work.path(self.corpus.stage, part))
        if not self.config.wanted:
            return dataclasses.replace(before, dropped=[])
        places, documents, dropped = [], [], []
        decided = zip(before.places, before.documents, *self._reasons(part), strict=True)
        cuts = _cuts(self.corpus, part, self.config)
        for row, (place, document, reason, original) in enumerate(decided):
            if not reason and row in cuts:
                text, reason = _left(document.text, cuts[row], self.config.min_left)
                document = dataclasses.replace(document, text=text)
            if reason:
                dropped.append(Dropped(place, reason, original))
            else:
                places.append(place)
                documents.append(document)
        return KeptPart(places, documents, dropped)

    def _reasons(self, part: str) -> tuple[list[str], list[str]]:
        """Why each document of a part is dropped, and the id of what it repeats; empty where it does not."""
        reasons = self.corpus.array("survivors", part, "reasons")
        copies = (reasons == _NEAR) | (reasons == _DUPLICATE)
        originals = np.full(len(reasons), "", object)
        originals[copies] = self.corpus.ids(self.corpus.array("survivors", part, "firsts")[copies])
        return [_REASONS[reason] for reason in reasons.tolist()], originals.tolist()


def _cuts(corpus: Corpus, part: str, config: DedupConfig) -> dict[int, dict[int, str]]:
    """By row of a document and number of a paragraph in it: why the paragraph is cut out."""
    marks: list[tuple[npt.NDArray[np.int64], str]] = []
    if config.paragraphs:
        marks.append((repeats_of(corpus, "paragraphs", part)[0], NOTHING_NEW))
    if config.evaluation.files:
        marks.append((np.flatnonzero(corpus.array("contamination", part, "cut")), EVALUATION_TEXT))
    cuts: dict[int, dict[int, str]] = {}
    if marks:
        ends = np.cumsum(corpus.signature(part, "paragraph_counts"))
        begins = np.concatenate([[0], ends])
        for rows, why in marks:
            of = np.searchsorted(ends, rows, side="right")
            for document, paragraph in zip(of.tolist(), (rows - begins[of]).tolist(), strict=True):
                cuts.setdefault(document, {})[paragraph] = why
    return cuts


def _left(text: str, cut: dict[int, str], min_left: int) -> tuple[str, str]:
    """What is left of a text without some paragraphs; and, if that is too little, the reason for its end."""
    left = "\n".join(line for number, line in enumerate(text.split("\n")) if number not in cut)
    if len(left) >= min_left:
        return left, ""
    return left, EVALUATION_TEXT if EVALUATION_TEXT in cut.values() else NOTHING_NEW
