"""Raw parts become kept parts: clean, canonical, filtered documents."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from pathlib import Path

from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.document import Document, Rejected
from data_tools.documents.filters import FilterConfig, rejection
from data_tools.documents.parts import Dropped, KeptPart, RawPart
from data_tools.stages.reading import PARTS
from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import TextTokenizer
from data_tools.text.pieces import pieces
from data_tools.text.sentences import code_points
from data_tools.work import Work, load_json, save_json

_READ = "read.json"
_PIECE_CHARACTERS = 1 << 22


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """An item is a raw part. It leaves a kept part, and ``read.json``: counts of what was read, and its sources."""

    work: Work
    clean: CleanConfig
    filter: FilterConfig
    name: str = "cleaning"

    def items(self) -> list[str]:
        """The parts that are there: all, once everything is read."""
        return self.work.finished(PARTS)

    def run(self, item: str, folder: Path) -> None:
        """Clean a part."""
        raw = RawPart.load(self.work.path(PARTS, item))
        tokenizer = tokenizer_of(self.work.folder)
        places: list[int] = []
        documents: list[Document] = []
        dropped: list[Dropped] = []
        for place, one in enumerate(raw.items):
            if isinstance(one, Rejected):
                continue
            text = self._canonical(one.text, tokenizer)
            if reason := rejection(text, code_points(text), self.filter):
                dropped.append(Dropped(place, reason))
            else:
                places.append(place)
                documents.append(Document(one.id, one.source, text))
        KeptPart(places, documents, dropped).save(folder)
        ReadCounts.of(raw).save(folder)

    def _canonical(self, text: str, tokenizer: TextTokenizer) -> str:
        """The canonical text of a document once clean; a giant is cleaned a few million characters at a time."""
        found = [tokenizer.canonical_paragraphs(clean(part, self.clean)) for part in pieces(text, _PIECE_CHARACTERS)]
        return "\n".join(filter(None, found))


@dataclasses.dataclass(frozen=True)
class ReadCounts:
    """What a raw part held.

    Attributes:
        items: documents, and what was rejected in place of one.
        broken_bytes: in them.
        unread: what was rejected, by reason.
        sources: of the documents, sorted.
    """

    items: int
    broken_bytes: int
    unread: dict[str, int]
    sources: list[str]

    @classmethod
    def of(cls, raw: RawPart) -> ReadCounts:
        """Count a part."""
        return cls(
            items=len(raw.items),
            broken_bytes=sum(one.broken_bytes for one in raw.items),
            unread=dict(Counter(one.reason for one in raw.items if isinstance(one, Rejected))),
            sources=sorted({one.source for one in raw.items if isinstance(one, Document)}),
        )

    def save(self, folder: Path) -> None:
        """Write them beside a kept part."""
        save_json(folder / _READ, dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path) -> ReadCounts:
        """Those beside a kept part."""
        return cls(**load_json(folder / _READ))


@functools.lru_cache(maxsize=1)
def tokenizer_of(folder: Path) -> TextTokenizer:
    """The tokenizer of a build, loaded once in each process from its work folder."""
    return load_tokenizer(folder / "tokenizer")
