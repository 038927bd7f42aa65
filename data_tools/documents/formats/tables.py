"""Tables: csv and tsv, parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from data_tools.documents.document import TOO_LONG, UNREADABLE, Document, Rejected
from data_tools.documents.encodings import decode
from data_tools.documents.files import File
from data_tools.documents.formats.lines import lines
from data_tools.documents.formats.records import document_of
from data_tools.documents.reader_config import ReaderConfig

_BATCH_ROWS = 256


def read_csv(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """Rows apart by commas (or what the first line has instead: tabs, semicolons), quoted as spreadsheets do."""
    rows = _Rows(stream, config.max_bytes)
    first = next(rows.lines, "")
    delimiter = max(",\t;", key=first.count)
    return _documents(rows, csv.reader(rows.text(first), delimiter=delimiter), file, config)


def read_tsv(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """Rows apart by tabs, in which a quotation mark is one of the text: a row is a line."""
    rows = _Rows(stream, config.max_bytes)
    reader = csv.reader(rows.text(next(rows.lines, "")), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _documents(rows, reader, file, config)


class _Rows:
    """Lines of text for the csv reader, and what it cannot know of them: broken bytes, lines too long to hold."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        csv.field_size_limit(limit)
        self.broken = 0
        self.too_long: list[int] = []
        self.lines = self._lines(stream, limit)

    def _lines(self, stream: BinaryIO, limit: int) -> Iterator[str]:
        for number, line in lines(stream, limit):
            if line is None:
                self.too_long.append(number)
                continue
            text, broken = decode(line)
            self.broken += broken
            yield text

    def text(self, first: str) -> Iterator[str]:
        yield first
        yield from self.lines


def _documents(rows: _Rows, reader: Any, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    columns: list[str] | None = None
    number = 0
    while True:
        row = _next_row(reader)
        yield from (Rejected(file.url, f"line {line}", TOO_LONG) for line in rows.too_long)
        rows.too_long.clear()
        if row is None:
            return
        number += 1
        broken, rows.broken = rows.broken, 0
        place = f"row {number}"
        if isinstance(row, csv.Error):
            yield Rejected(file.url, place, UNREADABLE, f"not a row: {row}", broken)
        elif columns is None and config.header:
            columns = [name.strip() for name in row]
        elif row:
            names = columns or [str(column + 1) for column in range(len(row))]
            if len(row) != len(names):
                detail = f"{len(row)} fields, where the header has {len(names)}"
                yield Rejected(file.url, place, UNREADABLE, detail, broken)
            else:
                yield document_of(dict(zip(names, row, strict=True)), file, place, number, config, broken)


def _next_row(reader: Any) -> list[str] | csv.Error | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        return error


def read_parquet(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """Rows of a parquet file, a few at a time; only the columns that are asked for are read."""
    with pq.ParquetFile(stream, page_checksum_verification=True) as table:
        names = table.schema_arrow.names
        wanted = [name for name in (*config.text_fields, config.id_field, config.source_field) if name in names]
        if not set(wanted) & set(config.text_fields):
            yield document_of(dict.fromkeys(names), file, "its schema", 0, config)
            return
        number = 0
        for batch in table.iter_batches(_BATCH_ROWS, columns=wanted):
            columns = {name: _values(batch.column(name)) for name in batch.schema.names}
            for row in range(batch.num_rows):
                number += 1
                yield _document_of_row({name: column[row] for name, column in columns.items()}, file, number, config)


def _values(column: Any) -> list[Any]:
    """A column as Python values; text as bytes, for it may be broken."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def _document_of_row(row: dict[str, Any], file: File, number: int, config: ReaderConfig) -> Document | Rejected:
    record, broken = {}, 0
    for name, value in row.items():
        if isinstance(value, bytes):
            if len(value) > config.max_bytes:
                return Rejected(file.url, f"row {number}", TOO_LONG)
            value, wrong = decode(value)
            broken += wrong
        record[name] = value
    return document_of(record, file, f"row {number}", number, config, broken)
