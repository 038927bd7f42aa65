"""HTML, XHTML and XML: the text that a reader of the page came for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO
from xml.parsers import expat

from resiliparse.extract.html2text import extract_plain_text

from data_tools.documents.document import NO_TEXT, TOO_LONG, UNREADABLE, Document, Rejected
from data_tools.documents.encodings import decode
from data_tools.documents.files import File
from data_tools.documents.formats.lines import whole
from data_tools.documents.reader_config import ReaderConfig

_CLOSED = re.compile(r"<([A-Za-z][\w:.-]*)([^<>]*)/>")
_NESTING = re.compile(r"<(/?)(?:div|section|article)\b", re.IGNORECASE)
MAX_PAGE = 32_000_000  # bytes; a page as a tree takes 17 times as much memory
_MAX_NESTING = 1000  # browsers stop at 512
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905


def read_html(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """One page a file: its main text."""
    data = whole(stream, min(MAX_PAGE, config.max_bytes))
    if data is None:
        yield Rejected(file.url, "", TOO_LONG, "too long a page")
        return
    page, broken = decode(data)
    text = main_text(page)
    if text:
        yield Document(file.name, file.source, text, broken)
    else:
        yield Rejected(file.url, "", NO_TEXT, "a page without text", broken)


def main_text(page: str) -> str:
    """The main text of an HTML or XHTML page, a paragraph a line, as resiliparse finds it.

    An XHTML page may close any element in its own tag, ``<title/>``; HTML parsers read that as an open tag, which may
    swallow the rest. What is main in a page is looked for in quadratic time by the depth of its sections, so a page
    deeper than any that a browser shows gives all its text.
    """
    if page.lstrip("\ufeff \t\r\n").startswith("<?xml"):
        page = _CLOSED.sub(_open_and_close, page)
    text = extract_plain_text(
        page,
        preserve_formatting=True,
        main_content=_nesting(page) <= _MAX_NESTING,
        list_bullets=False,
        alt_texts=False,
        comments=False,
    )
    return _tidy(text)


def read_xml(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """One document a file: the text of its elements, each a paragraph."""
    data = whole(stream, config.max_bytes)
    if data is None:
        yield Rejected(file.url, "", TOO_LONG)
        return
    parts: list[str] = []

    def end(*_: object) -> None:
        parts.append("\n")

    page, broken = decode(data)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.CharacterDataHandler = parts.append
    parser.StartElementHandler = parser.EndElementHandler = end
    try:
        parser.Parse(page.encode(), True)
    except expat.ExpatError as error:
        yield Rejected(file.url, f"line {error.lineno}", UNREADABLE, f"not XML: {error}", broken)
        return
    text = _tidy("".join(parts))
    yield Document(file.name, file.source, text, broken) if text else Rejected(file.url, "", NO_TEXT, "", broken)


def _nesting(page: str) -> int:
    """How deep the sections of a page lie in each other, at most."""
    deepest = depth = 0
    for closing in _NESTING.findall(page):
        depth += -1 if closing else 1
        deepest = max(deepest, depth)
    return deepest


def _open_and_close(tag: re.Match[str]) -> str:
    name, attributes = tag.groups()
    return tag[0] if name.lower() in _VOID else f"<{name}{attributes}></{name}>"


def _tidy(text: str) -> str:
    return "\n".join(line for line in map(str.strip, text.splitlines()) if line)
