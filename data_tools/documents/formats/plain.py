"""Plain text: a document is a stretch between blank lines, a file, or a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from data_tools.documents.document import TOO_LONG, Document, Rejected
from data_tools.documents.encodings import decode
from data_tools.documents.files import File
from data_tools.documents.formats.lines import lines
from data_tools.documents.reader_config import ReaderConfig


def read_text(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """The stretches of lines that ``config.plain_text`` says are documents, blank lines left out."""
    part: list[bytes] = []
    begin = size = 0
    too_long = False
    for number, line in lines(stream, config.max_bytes):
        blank = line is not None and not line.strip()
        if not blank:
            begin = begin or number
            size += 0 if line is None else len(line)
            too_long = too_long or line is None or size > config.max_bytes
            if too_long:
                part.clear()
            elif line is not None:
                part.append(line)
        if begin and (config.plain_text == "line" or (blank and config.plain_text == "blank_line")):
            yield _document(part, too_long, begin, file)
            part, begin, size, too_long = [], 0, 0, False
    if begin:
        yield _document(part, too_long, begin, file)


def _document(part: list[bytes], too_long: bool, begin: int, file: File) -> Document | Rejected:
    if too_long:
        return Rejected(file.url, f"line {begin}", TOO_LONG)
    text, broken = decode(b"".join(part))
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Document(f"{file.name}:{begin}", file.source, text.rstrip("\n"), broken)
