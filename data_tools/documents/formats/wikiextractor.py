"""What WikiExtractor writes: many articles a file, each ``<doc id= url= title=>``, its title, its text, ``</doc>``."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import BinaryIO

from data_tools.documents.document import NO_TEXT, TOO_LONG, UNREADABLE, Document, Rejected
from data_tools.documents.encodings import decode
from data_tools.documents.files import File
from data_tools.documents.formats.lines import lines
from data_tools.documents.reader_config import ReaderConfig

_ID = re.compile(rb'<doc\s+id="([^"]*)"')


def read_wikiextractor(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """The articles. One without an end, or lines outside of any, cannot be read."""
    part: list[bytes] = []
    name: str | None = None
    begin = size = 0
    outside = False
    for number, line in lines(stream, config.max_bytes):
        opened = _ID.match(line) if line else None
        if opened:
            if name is not None:
                yield Rejected(file.url, f"line {begin}", UNREADABLE, "an article without </doc>")
            name, part, begin, size, outside = decode(opened[1])[0], [], number, 0, False
        elif name is None:
            if (line is None or line.strip()) and not outside:
                outside = True
                yield Rejected(file.url, f"line {number}", UNREADABLE, "text outside of <doc> and </doc>")
        elif line is not None and line.startswith(b"</doc>"):
            yield _article(part, size > config.max_bytes, name, begin, file)
            name, part = None, []
        else:
            size += config.max_bytes + 1 if line is None else len(line)
            if line is None or size > config.max_bytes:
                part = []
            else:
                part.append(line)
    if name is not None:
        yield Rejected(file.url, f"line {begin}", UNREADABLE, "an article without </doc>")


def _article(part: list[bytes], too_long: bool, name: str, begin: int, file: File) -> Document | Rejected:
    if too_long:
        return Rejected(file.url, f"line {begin}", TOO_LONG)
    text, broken = decode(b"".join(part))
    text = "\n".join(line for line in map(str.strip, html.unescape(text).splitlines()) if line)
    if not text:
        return Rejected(file.url, f"line {begin}", NO_TEXT, "an article without text", broken)
    return Document(name, file.source, text, broken)
