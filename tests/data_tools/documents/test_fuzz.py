"""Ten thousand broken files, each of which ends in documents, accounted rejects, or an error that names the file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from data_tools.documents import document
from data_tools.documents.document import Document, Rejected
from data_tools.documents.files import File
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from tests.data_tools.documents.forms import TEXTS, TRADITIONAL, forms

CASES = 10_000
REASONS = {
    document.NOT_TEXT,
    document.NO_TEXT,
    document.TOO_LONG,
    document.BROKEN_BYTES,
    document.UNREADABLE,
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}
PIECES = [
    b"\0",
    b"\n",
    b"\r",
    b'"',
    b"{",
    b"}",
    b"[" * 50,
    b"<",
    b">",
    b"</doc>",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\\",
    b"&#",
    b"\t",
]


def whole_files() -> list[tuple[str, bytes]]:
    """Every format, bare, in other encodings, and compressed."""
    files = list(forms().items())
    text = "\n\n".join(TEXTS)
    files += [(f"{codec}.txt", text.encode(codec)) for codec in ("gb18030", "utf-16", "utf-16-be")]
    files.append(("big5.txt", TRADITIONAL.encode("big5")))
    for name, data in forms().items():
        files += [(name + suffix, compress(data)) for suffix, compress in COMPRESSIONS.items()]
    return files


def broken(data: bytes, rng: random.Random) -> bytes:
    """A file with some of it lost, changed or put where it should not be."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                del changed[at:]
            case 1:
                if at < len(changed):
                    changed[at] ^= 1 << rng.randrange(8)
            case 2:
                changed[at:at] = rng.choice(PIECES)
            case 3:
                del changed[at : at + rng.randrange(20)]
            case 4:
                changed[at : at + 8] = rng.randbytes(8)
            case 5:
                changed += changed[: rng.randrange(200)]
    return bytes(changed)


def absurd_config(rng: random.Random) -> ReaderConfig:
    return ReaderConfig(
        plain_text=rng.choice(["blank_line", "file", "line"]),
        text_field=rng.choice(["text", "text", "text,id", "nothing", "id", "n"]),
        id_field=rng.choice(["id", "text", ""]),
        header=rng.random() < 0.9,
        unreadable=rng.choice(["stop", "reject"]),
        broken_bytes=rng.choice(["reject", "replace"]),
        max_megabytes=rng.choice([256, 256, 256, 1e-9, 1e-4]),
    )


def test_every_broken_file_is_accounted_for(tmp_path: Path) -> None:
    rng = random.Random(20261122)
    files = whole_files()
    ends: Counter[str] = Counter()
    for case in range(CASES):
        name, data = rng.choice(files)
        data = rng.randbytes(rng.randrange(2000)) if case % 10 == 0 else broken(data, rng)
        path = tmp_path / name
        path.unlink(missing_ok=True)  # to write over a file can wait for the disk
        path.write_bytes(data)
        config = absurd_config(rng)
        try:
            items = list(read_documents([File(str(path))], config))
        except ValueError as error:
            assert str(path) in str(error) and config.unreadable == "stop", f"case {case}: {error}"
            ends["error"] += 1
            continue
        assert items, f"case {case}: nothing of {name} is accounted for"
        for item in items:
            if isinstance(item, Document):
                item.text.encode()  # no half characters
                assert item.text.strip() and (not item.broken_bytes or config.broken_bytes == "replace")
            else:
                assert isinstance(item, Rejected) and item.reason in REASONS and item.file == str(path)
                assert item.reason != document.UNREADABLE or (config.unreadable == "reject" and item.detail)
            ends[item.reason if isinstance(item, Rejected) else "document"] += 1
    assert all(ends[end] > 30 for end in (*REASONS, "error", "document")), ends


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plain_text": "word"}, "plain_text 'word' is not one of blank_line, file, line"),
        ({"text_field": "a,,b"}, "text_field 'a,,b' names no field"),
        ({"unreadable": None, "broken_bytes": 3}, "unreadable None is not one of stop, reject; broken_bytes 3 is not"),
        ({"max_megabytes": -1}, "max_megabytes -1 is not within 0 and 2000"),
        ({"max_megabytes": math.nan}, "max_megabytes nan is not within 0 and 2000"),
    ],
)
def test_an_absurd_config_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ReaderConfig(**options)
