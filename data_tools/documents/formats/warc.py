"""Web archives: the main text of the pages in WARC, the texts in WET.

The records are taken apart here, strictly: the libraries for it skip what is damaged without a word, or end the
process.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import brotli

from data_tools.documents.document import NO_TEXT, NOT_TEXT, TOO_LONG, UNREADABLE, Document, Rejected
from data_tools.documents.encodings import decode_any
from data_tools.documents.files import File
from data_tools.documents.formats.markup import MAX_PAGE, main_text
from data_tools.documents.reader_config import ReaderConfig

# What an archive says of itself and of how it was made holds no documents.
_ABOUT = ("warcinfo", "request", "metadata", "revisit")
_PAGE = ("text/html", "application/xhtml+xml")
_MAX_HEADERS = 1 << 20
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")


def read_warc(stream: BinaryIO, file: File, config: ReaderConfig) -> Iterator[Document | Rejected]:
    """One document a response, resource or conversion that is HTML or plain text.

    Damage between records ends the reading with OSError: what follows cannot be found.
    """
    for number, (headers, body) in enumerate(_records(stream, config.max_bytes), 1):
        if headers.get("warc-type") in _ABOUT:
            continue
        place = f"record {number}" + (f" ({url})" if (url := headers.get("warc-target-uri")) else "")
        if body is None:
            yield Rejected(file.url, place, TOO_LONG)
        elif "warc-type" not in headers:
            yield Rejected(file.url, place, UNREADABLE, "a record without WARC-Type")
        else:
            yield _document(headers, body, place, url or f"{file.name}:{number}", file, config)


def _records(stream: BinaryIO, limit: int) -> Iterator[tuple[dict[str, str], bytes | None]]:
    """The headers and the block of every record; None for a block of more than ``limit`` bytes."""
    while True:
        line = stream.readline(_MAX_HEADERS)
        if not line:
            return
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            raise OSError("no record begins where the last one ended")
        head = b""
        while (line := stream.readline(_MAX_HEADERS)).strip():
            head += line
            if len(head) > _MAX_HEADERS:
                raise OSError("the headers of a record do not end")
        headers = _headers(head)
        length = headers.get("content-length", "")
        if not (line and length.isascii() and length.isdigit() and len(length) < 19):
            raise OSError("a record without Content-Length")
        yield headers, _block(stream, int(length), limit)


def _block(stream: BinaryIO, length: int, limit: int) -> bytes | None:
    body = b"" if length > limit else stream.read(length)
    left = length - len(body)
    while length > limit and left and (part := stream.read(min(left, 1 << 20))):
        left -= len(part)
    if left:
        raise EOFError("it ends in the middle of a record")
    return None if length > limit else body


def _headers(lines: bytes) -> dict[str, str]:
    """Header fields by name in lower case."""
    fields = (line.partition(b":") for line in lines.split(b"\n") if b":" in line)
    return {
        name.strip().lower().decode("latin-1"): value.strip().decode("utf-8", "replace") for name, _, value in fields
    }


def _document(
    headers: dict[str, str], body: bytes, place: str, name: str, file: File, config: ReaderConfig
) -> Document | Rejected:
    """The document in a block: of a response, what follows the headers of HTTP."""
    kind = headers.get("content-type", "")
    if status := _STATUS.match(body):
        head, _, body = body.partition(b"\r\n\r\n")
        http = _headers(head.partition(b"\n")[2])
        kind = http.get("content-type", "")
        if status[1] != b"200":
            return Rejected(file.url, place, NO_TEXT, f"HTTP status {int(status[1])}")
        try:
            body = _decoded(body, http, config.max_bytes)
        except (zlib.error, brotli.error, EOFError) as error:
            return Rejected(file.url, place, UNREADABLE, f"cannot be uncompressed: {error}")
    kind = kind.partition(";")[0].strip().lower()
    if kind not in (*_PAGE, "text/plain"):
        return Rejected(file.url, place, NOT_TEXT, kind or "no content type")
    if len(body) > (config.max_bytes if kind == "text/plain" else min(MAX_PAGE, config.max_bytes)):
        return Rejected(file.url, place, TOO_LONG)
    text, broken = decode_any(body)
    text = text.strip() if kind == "text/plain" else main_text(text)
    if not text:
        return Rejected(file.url, place, NO_TEXT, "a page without text", broken)
    return Document(name, file.source, text, broken)


def _decoded(body: bytes, http: dict[str, str], limit: int) -> bytes:
    """A body without its transfer and content encodings; crawlers often undo them and leave the headers."""
    if "chunked" in http.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    encoding = http.get("content-encoding", "").lower()
    gzipped = body.startswith(b"\x1f\x8b")
    if gzipped or (encoding == "deflate" and body[:1] == b"\x78"):
        decoder = zlib.decompressobj(31 if gzipped else 15)
        body = decoder.decompress(body, limit + 1)
        if not decoder.eof and len(body) <= limit:
            raise EOFError("it ends too soon")
    elif encoding == "br" and not body.lstrip().startswith(b"<"):  # which begins no brotli stream
        body = _unbrotlied(body, limit)
    return body


def _unbrotlied(body: bytes, limit: int) -> bytes:
    """What a brotli stream holds; of one that holds more than the limit, more than the limit."""
    decoder = brotli.Decompressor()
    parts = [decoder.process(body, output_buffer_limit=1 << 20)]
    while not decoder.is_finished() and sum(map(len, parts)) <= limit:
        if decoder.can_accept_more_data():
            raise EOFError("it ends too soon")
        parts.append(decoder.process(b"", output_buffer_limit=1 << 20))
    return b"".join(parts)


def _unchunked(body: bytes) -> bytes:
    """A body of chunks, put together; as it is if it is none."""
    parts: list[bytes] = []
    at = 0
    while chunk := _CHUNK.match(body, at):
        size = int(chunk[1], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[chunk.end() : chunk.end() + size])
        at = chunk.end() + size + 2
    return b"".join(parts) if parts else body
