"""The records of a task's files, each with where it stands: jsonl, one JSON document or a table, perhaps compressed."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from backports import zstd

TYPES = (".jsonl", ".json", ".tsv")
OPENERS: dict[str, Callable[..., Any]] = {
    "": open,
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".zst": zstd.open,
}
DAMAGE = (OSError, EOFError, UnicodeDecodeError, csv.Error, lzma.LZMAError, zlib.error, zstd.ZstdError)

Record = Mapping[str, Any]


def records(path: Path) -> Iterator[tuple[str, Record]]:
    """The records of a file, each with where it stands: its line, or its place in the document, counted from 0.

    Raises ValueError where something in it is wrong; the place is named.
    """
    compression = path.suffix if path.suffix in OPENERS else ""
    parse = _tsv if path.name.removesuffix(compression).endswith(".tsv") else _json
    try:
        with OPENERS[compression](path, "rt", encoding="utf-8-sig", newline="") as stream:
            found = parse(path, stream)
            if (first := next(found, None)) is None:
                raise ValueError(f"{path}: no example in it")
            yield first
            yield from found
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _tsv(path: Path, stream: Any) -> Iterator[tuple[str, Record]]:
    """Rows by the names in the first line; nothing is quoted."""
    reader = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    rows = (row for row in reader if row)
    names = next(rows, [])
    if len(set(names)) < len(names):
        raise ValueError(f"{path}:{reader.line_num}: two columns have one name: {', '.join(names)}")
    for row in rows:
        where = f"{path}:{reader.line_num}"
        if len(row) != len(names):
            raise ValueError(f"{where}: not as many fields as the first line has names")
        yield where, dict(zip(names, row, strict=True))


def _json(path: Path, stream: Any) -> Iterator[tuple[str, Record]]:
    """One object a line, or one JSON document, as SQuAD's and CMRC's files are."""
    lines = stream.readlines()
    if _begins_lines(next((line for line in lines if line.strip()), "{}")):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield from _questions(_parsed(line, f"{path}:{number}"), f"{path}:{number}")
        return
    document = _parsed("".join(lines), str(path))
    given = document["data"] if isinstance(document, dict) and "data" in document else document
    if not isinstance(given, list):
        raise ValueError(
            f"{path}: not one JSON object a line, nor a list of them, nor an object with such a list, data"
        )
    for number, record in enumerate(given):
        yield from _questions(record, f"{path}[{number}]")


def _begins_lines(line: str) -> bool:
    """Whether the first line of a file is a record of its own, whole or damaged, and not of a document."""
    try:
        begun = json.loads(line)
    except (ValueError, RecursionError):
        return line.lstrip()[:1] == "{" and line.rstrip()[-1:] == "}"
    return isinstance(begun, dict) and not isinstance(begun.get("data"), list)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON: {error}") from None


def _questions(record: Any, where: str) -> Iterator[tuple[str, Record]]:
    """A record, or the questions that are nested in it, each with its passage."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: not a JSON object")
    nested = next((name for name in ("paragraphs", "qas") if name in record), None)
    if nested is None:
        yield where, record
        return
    if not isinstance(record[nested], list):
        raise ValueError(f"{where}: its {nested} are no list")
    for number, one in enumerate(record[nested]):
        its = f"{where}.{nested}[{number}]"
        for place, found in _questions(one, its):
            yield place, found if nested == "paragraphs" else _asked(record, found)


def _asked(passage: Record, question: Record) -> Record:
    """A question with its passage, by the names of plain files."""
    context = passage.get("context", passage.get("context_text"))
    return {"context": context, "question": question.get("question", question.get("query_text")), **question}
