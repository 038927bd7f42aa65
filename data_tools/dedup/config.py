"""What a user says about duplicates and evaluation text."""

from __future__ import annotations

import dataclasses
from typing import Literal

from data_tools.documents.reader_config import ReaderConfig

_MAX_SKETCH = 1024


@dataclasses.dataclass(frozen=True)
class DecontaminationConfig:
    """Which text must not be learnt from, because a model is examined with it.

    The units of an n-gram are Chinese characters and words of other scripts; marks and line ends do not count. An
    evaluation text that is shorter than an n-gram cannot be found.

    Attributes:
        files: evaluation files, in any form that the readers read; none switches decontamination off.
        text_field: the fields of their records that hold text, apart by commas.
        unreadable: what becomes of files and records that cannot be read, or have none of these fields: stop with an
            error, or reject them; the build says how many.
        ngram: units of an n-gram.
        min_ngrams: n-grams of the evaluation files, at least, in what is evaluation text.
        min_share: the same as a share of all n-grams of the document or paragraph.
        drop: the whole document, or only the paragraphs that hold evaluation text.
    """

    files: list[str] = dataclasses.field(default_factory=list)
    text_field: str = "text,text_a,text_b,sentence,sentence1,sentence2,context,question,content,title"
    unreadable: Literal["stop", "reject"] = "stop"
    ngram: int = 16
    min_ngrams: int = 1
    min_share: float = 0.0
    drop: Literal["document", "paragraph"] = "paragraph"

    def __post_init__(self) -> None:
        problems = []
        try:
            ReaderConfig(text_field=self.text_field, unreadable=self.unreadable)
        except ValueError as error:
            problems.append(str(error))
        if self.ngram < 2:
            problems.append(f"ngram {self.ngram} is less than 2")
        if self.min_ngrams < 1:
            problems.append(f"min_ngrams {self.min_ngrams} is not positive")
        if not 0 <= self.min_share <= 1:
            problems.append(f"min_share {self.min_share} is not a share")
        if self.drop not in ("document", "paragraph"):
            problems.append(f"drop {self.drop!r} is not one of document, paragraph")
        if problems:
            raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class DedupConfig:
    """What of a corpus that was there before is left out. The first in the order of the input is always kept.

    Near duplicates are found by MinHash with banding (Broder 1997; Leskovec et al., "Mining of Massive Datasets", ch.
    3): two documents whose sets of n-grams have the Jaccard similarity s meet in a band with the probability
    1 - (1 - s ** rows) ** bands, about two thirds at s = (1 / bands) ** (1 / rows). At the defaults that is 0.74; at
    0.6 one pair in nine is found, at 0.85 all but one in eighty.

    Attributes:
        exact: documents whose canonical text is that of one before.
        near: documents whose n-grams are mostly those of one before.
        ngram: units of an n-gram of ``near``: Chinese characters, and words of other scripts.
        bands: of a sketch.
        rows: minima of a band.
        paragraphs: paragraphs that were there before, in this document or another, are cut out.
        min_paragraph: characters of a paragraph that is looked at; common phrases are shorter.
        min_left: characters that must be left of a document of which paragraphs are cut, or it goes as a whole.
        evaluation: text that must not be learnt from.
    """

    exact: bool = True
    near: bool = False
    ngram: int = 5
    bands: int = 20
    rows: int = 10
    paragraphs: bool = False
    min_paragraph: int = 50
    min_left: int = 10
    evaluation: DecontaminationConfig = dataclasses.field(default_factory=DecontaminationConfig)

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)} is not positive"
            for name in ("bands", "rows", "min_paragraph", "min_left")
            if getattr(self, name) < 1
        ]
        if self.ngram < 2:
            problems.append(f"ngram {self.ngram} is less than 2")
        if self.bands * self.rows > _MAX_SKETCH:
            problems.append(f"bands {self.bands} x rows {self.rows} are more than {_MAX_SKETCH} minima")
        if self.min_left > self.min_paragraph:
            # Else a document could go with the first occurrence of a paragraph that is cut from all others.
            problems.append(f"min_left {self.min_left} is more than min_paragraph {self.min_paragraph}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def wanted(self) -> bool:
        """Whether anything is to be left out."""
        return self.exact or self.near or self.paragraphs or bool(self.evaluation.files)
