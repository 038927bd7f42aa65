"""What a file is: by what it holds first, by its name only where many formats look alike."""

from __future__ import annotations

import re
from typing import Literal

import orjson

from data_tools.documents.compression import SUFFIXES
from data_tools.documents.encodings import decode_any

Kind = Literal["jsonl", "json", "parquet", "csv", "tsv", "text", "html", "xml", "warc", "wiki", "roff"]

# What corpora have among their files that is no text: where the mark stands, the mark, what has it.
_JUNK = [
    (0, b"\x00\x00\x00\x01Bud1", ".DS_Store"),
    (0, b"\x00\x05\x16\x07", "AppleDouble file"),
    (0, b"\x00\x05\x16\x00", "AppleSingle file"),
    (0, b"PK\x03\x04", "zip archive or office document"),
    (0, b"PK\x05\x06", "zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"Rar!\x1a\x07", "rar archive"),
    (257, b"ustar", "tar archive"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
    (0, b"\xff\xd8\xff", "JPEG image"),
    (0, b"GIF87a", "GIF image"),
    (0, b"GIF89a", "GIF image"),
    (8, b"WEBPVP8", "WebP image"),
    (0, b"II*\x00", "TIFF image"),
    (0, b"MM\x00*", "TIFF image"),
    (0, b"%PDF-", "PDF"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old office document"),
    (0, b"{\\rtf1", "RTF document"),
    (0, b"\x7fELF", "program"),
    (0, b"MZ\x90\x00", "program"),
    (0, b"\xca\xfe\xba\xbe", "program"),
    (0, b"SQLite format 3\x00", "SQLite database"),
    (0, b"\x93NUMPY", "numpy array"),
    (0, b"ARROW1\x00\x00", "Arrow file"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 file"),
    (0, b"ID3", "MP3 audio"),
    (4, b"ftyp", "MP4 video"),
    (0, b"RIFF", "RIFF audio or video"),
    (0, b"OggS\x00", "Ogg audio"),
    (0, b"fLaC\x00", "FLAC audio"),
]
_BY_SUFFIX: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".xml": "xml",
}
_SKIPPED = r"(?>\s+|<!--.*?-->|<\?.*?\?>)*+"  # never tried again another way, which is exponential
_HTML = re.compile(_SKIPPED + r"(?:<!doctype\s+html\b|<(?:html|head|body)\b)", re.IGNORECASE | re.DOTALL)
_WIKI = re.compile(r"\s*<doc\s+id=")
_ROFF = re.compile(r"(?:['.]\\\"|\.(?:TH|Dd|SH|so|de)\s)")
_ROFF_TITLE = re.compile(r"^\.(?:TH|Dd|so)\s", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL = 0.01  # share of control characters in the head; broken text has fewer, binary data more


def kind_of(head: bytes, name: str) -> Kind:
    """The kind of a file by its first bytes, uncompressed, and its name.

    Raises ValueError that says what the file is if it is no text.
    """
    for offset, mark, what in _JUNK:
        if head.startswith(mark, offset):
            raise ValueError(what)
    if head.startswith(b"PAR1"):
        return "parquet"
    if re.match(rb"(?:\r?\n)*WARC/\d", head):
        return "warc"
    text, _ = decode_any(head)
    if len(_CONTROL.findall(text)) > _MAX_CONTROL * len(text):
        raise ValueError("binary data")
    return _of_text(text.lstrip("\ufeff"), _suffix(name))


def _of_text(text: str, suffix: str) -> Kind:
    if _WIKI.match(text):
        return "wiki"
    if _HTML.match(text):
        return "html"
    if text.lstrip().startswith("<?xml"):
        return "xml"
    if _ROFF.match(text.lstrip()) and _ROFF_TITLE.search(text):
        return "roff"
    if _is_jsonl(text):
        return "jsonl"
    return _BY_SUFFIX.get(suffix, "text")


def _is_jsonl(text: str) -> bool:
    """Whether the first line is a JSON object, or the beginning of a long one."""
    line, _, rest = text.lstrip().partition("\n")
    if not line.startswith("{"):
        return False
    try:
        return isinstance(orjson.loads(line.encode(errors="replace")), dict)
    except orjson.JSONDecodeError:
        return not rest and len(text) > 1000 and re.match(r'\{\s*"[^"]*"\s*:', line) is not None


def _suffix(name: str) -> str:
    name = name.lower()
    for compressed in SUFFIXES:
        name = name.removesuffix(compressed)
    return name[name.rfind(".") :] if "." in name else ""
