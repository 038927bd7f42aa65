"""Manual pages in roff, one a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from data_tools.documents.document import NO_TEXT, TOO_LONG, Document, Rejected
from data_tools.documents.encodings import decode
from data_tools.documents.files import File
from data_tools.documents.formats.lines import whole
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.roff import plain


def read_roff(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """One page a file."""
    data = whole(stream, config.max_bytes)
    if data is None:
        yield Rejected(file.url, "", TOO_LONG)
        return
    page, broken = decode(data)
    text = plain(page)
    yield Document(file.name, file.source, text, broken) if text else Rejected(file.url, "", NO_TEXT, "", broken)
