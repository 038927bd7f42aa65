"""Records with named fields: JSON objects, rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import orjson

from data_tools.documents.document import NO_TEXT, TOO_LONG, UNREADABLE, Document, Rejected
from data_tools.documents.encodings import decode
from data_tools.documents.files import File
from data_tools.documents.formats.lines import lines, whole
from data_tools.documents.reader_config import ReaderConfig


def read_jsonl(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """One JSON object a line, as WikiExtractor --json writes them too."""
    for number, line in lines(stream, config.max_bytes):
        place = f"line {number}"
        if line is None:
            yield Rejected(file.url, place, TOO_LONG)
        elif line.strip():
            yield _parsed(line, file, place, number, config)


def read_json(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """A file that is one JSON value: an object, or an array of them. It is held in memory."""
    data = whole(stream, config.max_bytes)
    if data is None:
        yield Rejected(file.url, "", TOO_LONG, "too long for one JSON value; give one object a line")
        return
    text, broken = decode(data)
    try:
        value = orjson.loads(text) if text.strip() else []
    except orjson.JSONDecodeError as error:
        yield Rejected(file.url, "", UNREADABLE, f"not JSON: {error}")
        return
    for number, record in enumerate(value if isinstance(value, list) else [value], 1):
        yield document_of(record, file, f"record {number}", number, config, broken)


def _parsed(line: bytes, file: File, place: str, number: int, config: ReaderConfig) -> Document | Rejected:
    broken = 0
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        text, broken = decode(line)
        if not broken:
            return Rejected(file.url, place, UNREADABLE, f"not JSON: {error}")
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as second:
            return Rejected(file.url, place, UNREADABLE, f"not JSON: {second}", broken)
    return document_of(record, file, place, number, config, broken)


def document_of(
    record: Any, file: File, place: str, number: int, config: ReaderConfig, broken: int = 0
) -> Document | Rejected:
    """The document that a record holds; where it has none, the Rejected names the fields there are."""
    if not isinstance(record, Mapping):
        return Rejected(file.url, place, UNREADABLE, "not a record with fields", broken)
    names = [name for name in config.text_fields if name in record]
    if not names:
        fields = ", ".join(map(str, list(record)[:20])) or "none"
        detail = f"no text in field {config.text_field!r}; the fields are {fields}: choose with --reader.text_field"
        return Rejected(file.url, place, UNREADABLE, detail, broken)
    texts = [record[name] for name in names if record[name] is not None]
    if other := [text for text in texts if not isinstance(text, str)]:
        detail = f"the field {config.text_field!r} holds {type(other[0]).__name__}, not text"
        return Rejected(file.url, place, UNREADABLE, detail, broken)
    text = "\n".join(filter(None, texts))
    if not text.strip():
        return Rejected(file.url, place, NO_TEXT, "", broken)
    name = record.get(config.id_field)
    source = record.get(config.source_field)
    return Document(
        f"{file.name}:{number}" if name is None else str(name),
        file.source if source is None else str(source),
        text,
        broken,
    )
