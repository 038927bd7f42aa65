"""Files become documents, and what does not is accounted for.

file ─▶ uncompressed (by content) ─▶ its kind (by content, then name) ─▶ UTF-8 ─▶ the reader of its format
                                          │
                                          └─▶ no text at all: rejected
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import pyarrow as pa

from data_tools.documents.compression import DAMAGE, uncompressed
from data_tools.documents.document import BROKEN_BYTES, NO_TEXT, NOT_TEXT, UNREADABLE, Document, Rejected
from data_tools.documents.encodings import to_utf8
from data_tools.documents.files import File
from data_tools.documents.formats.markup import read_html, read_xml
from data_tools.documents.formats.plain import read_text
from data_tools.documents.formats.records import read_json, read_jsonl
from data_tools.documents.formats.roff import read_roff
from data_tools.documents.formats.tables import read_csv, read_parquet, read_tsv
from data_tools.documents.formats.warc import read_warc
from data_tools.documents.formats.wikiextractor import read_wikiextractor
from data_tools.documents.kinds import Kind, kind_of
from data_tools.documents.reader_config import ReaderConfig

_Reader = Callable[[BinaryIO, File, ReaderConfig], Iterator[Document | Rejected]]

_READERS: dict[Kind, _Reader] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "text": read_text,
    "html": read_html,
    "xml": read_xml,
    "wiki": read_wikiextractor,
    "roff": read_roff,
}


def read_documents(files: Iterable[File], config: ReaderConfig) -> Iterator[Document | Rejected]:
    """The documents of the files, in order, and in their places what was rejected.

    Every file yields something. Raises ValueError with file and place where something cannot be read, unless the config
    has it rejected.
    """
    for file in files:
        for item in _accounted(file, config):
            if isinstance(item, Document) and item.broken_bytes and config.broken_bytes == "reject":
                item = Rejected(file.url, item.id, BROKEN_BYTES, f"{item.broken_bytes} bytes", item.broken_bytes)
            if isinstance(item, Rejected) and item.reason == UNREADABLE and config.unreadable == "stop":
                raise ValueError(f"{item} (--reader.unreadable reject goes on without it)")
            yield item


def _accounted(file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """What one file holds; where it breaks, a last Rejected for all that is behind."""
    count = 0
    try:
        with file.open() as stream:
            for item in _items(stream, file, config):
                count += 1
                yield item
        if not count:
            yield Rejected(file.url, "", NO_TEXT, "an empty file")
    except (*DAMAGE, pa.ArrowException) as error:
        place = f"after document {count}" if count else ""
        yield Rejected(file.url, place, UNREADABLE, f"cannot be read: {error or type(error).__name__}")


def _items(raw: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    head, stream = uncompressed(raw)
    try:
        kind = kind_of(head, file.name)
    except ValueError as error:
        yield Rejected(file.url, "", NOT_TEXT, str(error))
        return
    if kind == "parquet":
        yield from _parquet(raw, head, file, config)
    elif kind == "warc":
        yield from read_warc(stream, file, config)
    else:
        yield from _READERS[kind](to_utf8(head, stream), file, config)


def _parquet(raw: BinaryIO, head: bytes, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """The rows of a parquet file, which is read from its end: one that is compressed as a whole is uncompressed into a
    temporary file first."""
    raw.seek(0)
    compressed = raw.read(4) != head[:4]
    raw.seek(0)
    if not compressed:
        yield from read_parquet(raw, file, config)
        return
    with tempfile.TemporaryFile() as whole:
        shutil.copyfileobj(uncompressed(raw)[1], whole, 1 << 20)
        yield from read_parquet(whole, file, config)
