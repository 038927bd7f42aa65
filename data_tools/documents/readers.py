"""Files of documents, as they lie about: jsonl and plain text, bare or compressed (gz, bz2, xz, zst)."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
from backports import zstd

from data_tools.documents.document import Document

_COMPRESSIONS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": zstd.open,
}
_DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, zstd.ZstdError)


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """How files become documents.

    Attributes:
        plain_text: what is one document in a plain text file: a stretch between blank lines, a file, or a line.
        text_field: the field of a jsonl record that holds the text.
        id_field: the field that names the document; without it, the file and line do.
        source_field: the field that says where it is from; without it, the file's name does.
    """

    plain_text: Literal["blank_line", "file", "line"] = "blank_line"
    text_field: str = "text"
    id_field: str = "id"
    source_field: str = "source"


def find_files(inputs: Sequence[Path]) -> list[Path]:
    """The corpus files among the inputs, in order: files as given, folders searched for every known suffix.

    Raises ValueError that names what does not exist, cannot be read as a corpus, or holds nothing.
    """
    files: list[Path] = []
    for given in map(Path, inputs):
        if given.is_dir():
            found = sorted(path for path in given.rglob("*") if path.is_file() and _kind(path) is not None)
            if not found:
                raise ValueError(f"{given}: no {', '.join(_READERS)} file in this folder (plain or {_compressions()})")
            files += found
        elif not given.is_file():
            raise ValueError(f"{given}: no such file or folder")
        elif _kind(given) is None:
            raise ValueError(f"{given}: not a corpus; give {', '.join(_READERS)}, plain or {_compressions()}")
        else:
            files.append(given)
    if not files:
        raise ValueError("no input: give files or folders of text")
    return files


def read_documents(files: Iterable[Path], config: ReaderConfig) -> Iterator[Document]:
    """The documents of the files, in order. Raises ValueError with file and line where one cannot be read."""
    for path in files:
        kind = _kind(path)
        assert kind is not None
        opened = _COMPRESSIONS.get(path.suffix.lower(), open)
        try:
            with opened(path, "rb") as stream:
                yield from _READERS[kind](stream, path, config)
        except _DAMAGE as error:
            raise ValueError(f"{path}: cannot be read: {error or type(error).__name__}") from error


def fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of the files, in order, in hex: what a result depends on, wherever they lie."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        digest.update(path.name.encode())
    return digest.hexdigest()


def _kind(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in _READERS else None


def _compressions() -> str:
    return "/".join(_COMPRESSIONS)


def _read_jsonl(stream: BinaryIO, path: Path, config: ReaderConfig) -> Iterator[Document]:
    source = path.name.split(".")[0]
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
        text = record.get(config.text_field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise ValueError(f"{path}, line {number}: no text in field {config.text_field!r} (--reader.text_field)")
        name = record.get(config.id_field, f"{path.name}:{number}")
        yield Document(str(name), str(record.get(config.source_field, source)), text)


def _read_text(stream: BinaryIO, path: Path, config: ReaderConfig) -> Iterator[Document]:
    source = path.name.split(".")[0]
    lines: list[str] = []
    begin = 1
    for number, raw in enumerate(stream, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: not UTF-8 text ({error.reason} at byte {error.start}); convert it,"
                f" e.g. iconv -f GB18030 -t UTF-8"
            ) from error
        if line.strip():
            lines.append(line)
        if config.plain_text == "line" or (config.plain_text == "blank_line" and not line.strip()):
            if lines:
                yield Document(f"{path.name}:{begin}", source, "\n".join(lines))
            lines, begin = [], number + 1
    if lines:
        yield Document(f"{path.name}:{begin}", source, "\n".join(lines))


_READERS: dict[str, Callable[[BinaryIO, Path, ReaderConfig], Iterator[Document]]] = {
    ".jsonl": _read_jsonl,
    ".txt": _read_text,
}
