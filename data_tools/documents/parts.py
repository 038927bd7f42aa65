"""Parts of a corpus on their way to samples: a few million characters of documents each, in Arrow files.

A raw part is what was read. Every later stage leaves a kept part of the same name: the documents that it keeps, and
which it does not, and why. So read = kept by the last stage + what was rejected on the way, for each part.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_tools.documents.document import Document, Rejected
from data_tools.work import load_json, save_json

_COUNTS = "dropped.json"
_STRING = pa.large_string()  # a document may be longer than the 2 GiB of all that a plain column holds


@dataclasses.dataclass(frozen=True)
class RawPart:
    """What was read, in order: documents, and in their places what is none."""

    items: Sequence[Document | Rejected]

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        documents = [(place, item) for place, item in enumerate(self.items) if isinstance(item, Document)]
        unread = [(place, item) for place, item in enumerate(self.items) if isinstance(item, Rejected)]
        _write_documents(folder / "documents.arrow", documents)
        fields = {"place": pa.int64(), **dict.fromkeys(("file", "where", "reason", "detail"), _STRING)}
        rows = [(place, item.file, item.place, item.reason, item.detail, item.broken_bytes) for place, item in unread]
        _write(folder / "unread.arrow", {**fields, "broken_bytes": pa.int64()}, rows)

    @classmethod
    def load(cls, folder: Path) -> RawPart:
        """The part in a folder."""
        documents = {place: document for place, document in _read_documents(folder / "documents.arrow")}
        unread = {place: Rejected(*fields) for place, *fields in _read(folder / "unread.arrow")}
        items = documents | unread
        return cls([items[place] for place in range(len(items))])


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """A document that a stage does not keep.

    Attributes:
        place: among the items of its raw part.
        reason: to count by.
        detail: what there is to say of this one.
    """

    place: int
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class KeptPart:
    """What a stage keeps of a part.

    Attributes:
        places: of the documents among the items of the raw part, ascending.
        documents: with canonical texts, paragraphs apart by line feeds.
        dropped: what this stage does not keep of that which the one before it kept.
    """

    places: Sequence[int]
    documents: Sequence[Document]
    dropped: Sequence[Dropped]

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        _write_documents(folder / "documents.arrow", list(zip(self.places, self.documents, strict=True)))
        write_dropped(folder, self.dropped)

    @classmethod
    def load(cls, folder: Path) -> KeptPart:
        """The part in a folder."""
        rows = _read_documents(folder / "documents.arrow")
        return cls([place for place, _ in rows], [document for _, document in rows], read_dropped(folder))


def write_dropped(folder: Path, dropped: Sequence[Dropped]) -> None:
    """Write which documents a stage does not keep, and how many by reason."""
    fields = {"place": pa.int64(), "reason": _STRING, "detail": _STRING}
    _write(folder / "dropped.arrow", fields, [(one.place, one.reason, one.detail) for one in dropped])
    save_json(folder / _COUNTS, Counter(one.reason for one in dropped))


def read_dropped(folder: Path) -> list[Dropped]:
    """Which documents a stage did not keep."""
    return [Dropped(*row) for row in _read(folder / "dropped.arrow")]


def rejected_counts(folder: Path) -> Counter[str]:
    """How many documents of a part a stage did not keep, by reason."""
    return Counter(load_json(folder / _COUNTS))


def _write_documents(path: Path, documents: Sequence[tuple[int, Document]]) -> None:
    fields = {"place": pa.int64(), "id": _STRING, "source": _STRING, "text": _STRING, "broken_bytes": pa.int64()}
    _write(path, fields, [(place, one.id, one.source, one.text, one.broken_bytes) for place, one in documents])


def _read_documents(path: Path) -> list[tuple[int, Document]]:
    return [(place, Document(*fields)) for place, *fields in _read(path)]


def _write(path: Path, fields: Mapping[str, pa.DataType], rows: Sequence[tuple[Any, ...]]) -> None:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields)
    arrays = [_array(column, kind) for column, kind in zip(columns, fields.values(), strict=True)]
    table = pa.table(arrays, schema=pa.schema(list(fields.items())))
    with pa.OSFile(str(path), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(column, kind)
    except UnicodeEncodeError:  # half of a surrogate pair, which no encoding of text has
        return pa.array([text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in column], kind)


def _read(path: Path) -> list[tuple[Any, ...]]:
    with pa.OSFile(str(path)) as stream, pa.ipc.open_file(stream) as reader:
        columns = [column.to_pylist() for column in reader.read_all().columns]
    return list(zip(*columns, strict=True))
