"""What a user says about the files of a corpus."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """How files become documents.

    A file cannot be read where an archive ends too soon or a record is not what its format says. That stops the work by
    default, with file and place: it is most often a broken download or the wrong field, and a corpus with a hole that
    nobody saw is worse than a message. Broken bytes are the wear of old text, so they cost their document only.

    Attributes:
        plain_text: what is one document in a plain text file: a stretch between blank lines, a file, or a line.
        text_field: the field or column that holds the text; of several, apart by commas, those that a record has.
        id_field: the field that names the document; without it, the file and the place do.
        source_field: the field that says where it is from; without it, the file's name does.
        header: the first row of a csv or tsv file names its columns; if not, they are called 1, 2, 3.
        unreadable: what becomes of what cannot be read: stop with an error, or reject it and count it.
        broken_bytes: what becomes of a document with bytes that are not of its encoding: reject it, or replace them.
        max_megabytes: of one document, or of one record around it; a longer one is rejected and never held in
            memory. An HTML page may have 32 at most, for its tree is far larger.
    """

    plain_text: Literal["blank_line", "file", "line"] = "blank_line"
    text_field: str = "text"
    id_field: str = "id"
    source_field: str = "source"
    header: bool = True
    unreadable: Literal["stop", "reject"] = "stop"
    broken_bytes: Literal["reject", "replace"] = "reject"
    max_megabytes: float = 256.0

    def __post_init__(self) -> None:
        problems = []
        for name, kind in _hints().items():
            value = getattr(self, name)
            if get_origin(kind) is Literal and value not in get_args(kind):
                problems.append(f"{name} {value!r} is not one of {', '.join(get_args(kind))}")
        if not all(self.text_fields):
            problems.append(f"text_field {self.text_field!r} names no field")
        if not 0 < self.max_megabytes <= 2000:
            problems.append(f"max_megabytes {self.max_megabytes} is not within 0 and 2000")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def text_fields(self) -> list[str]:
        """The names in ``text_field``."""
        return [name.strip() for name in self.text_field.split(",")]

    @property
    def max_bytes(self) -> int:
        """Of one record."""
        return max(1, int(self.max_megabytes * 1e6))


def _hints() -> dict[str, Any]:
    return get_type_hints(ReaderConfig)
