"""Files become raw parts of a few million characters, published as they are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_tools.documents.document import Document, Rejected
from data_tools.documents.files import File
from data_tools.documents.parts import RawPart
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.work import Work

PARTS = "parts"
_REJECTED_CHARACTERS = 100  # what one that is no document counts for


@dataclasses.dataclass(frozen=True)
class Reading:
    """An item is a group of files. It leaves an empty folder, and, while it goes on, parts for the next stage: the
    documents of one huge file are worked on by all workers before it is read to its end.

    Attributes:
        work: the work folder.
        groups: of files, in order.
        config: how they are read.
        part_characters: a part is full with as many.
    """

    work: Work
    groups: tuple[tuple[File, ...], ...]
    config: ReaderConfig
    part_characters: int
    name: str = "reading"

    def items(self) -> list[str]:
        """Numbers of the groups."""
        return [f"{number:07d}" for number in range(len(self.groups))]

    def run(self, item: str, folder: Path) -> None:
        """Read a group. Parts that are there, from a run that was killed, are left as they are."""
        batch: list[Document | Rejected] = []
        number = characters = 0
        for one in read_documents(self.groups[int(item)], self.config):
            batch.append(one)
            characters += len(one.text) if isinstance(one, Document) else _REJECTED_CHARACTERS
            if characters >= self.part_characters:
                self._publish(item, number, batch)
                batch, characters, number = [], 0, number + 1
        if batch:
            self._publish(item, number, batch)

    def _publish(self, item: str, number: int, batch: list[Document | Rejected]) -> None:
        name = f"{item}-{number:07d}"
        if not self.work.is_finished(PARTS, name):
            with self.work.publishing(PARTS, name) as folder:
                RawPart(batch).save(folder)
