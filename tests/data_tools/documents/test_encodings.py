"""Encodings are found by trial, on the shortest of texts, and broken bytes are counted one by one."""

from __future__ import annotations

import pytest

from data_tools.documents.encodings import decode, decode_any
from tests.conftest import OBJECTS, SUBJECTS, VERBS
from tests.data_tools.documents.forms import TEXTS, TRADITIONAL

SENTENCES = [f"{subject}{verb}{thing}。" for subject in SUBJECTS for verb in VERBS for thing in OBJECTS]


@pytest.mark.parametrize(
    ("codec", "length", "right"),
    [("utf-8", 1, 1.0), ("gb18030", 2, 0.95), ("gb18030", 4, 0.99), ("gb18030", 8, 0.999), ("utf-16-le", 12, 0.98)],
)
def test_short_texts(codec, length, right):
    """What is missed cannot be known: 学习 in GB18030 is valid UTF-8, and in UTF-16 it is ASCII."""
    texts = {sentence[begin : begin + length] for sentence in SENTENCES for begin in range(3)}
    texts = {text for text in texts if not text.isascii()}
    assert len(texts) > 40
    assert sum(decode_any(text.encode(codec)) == (text, 0) for text in texts) >= right * len(texts)


def test_big5_is_told_from_gb18030_though_its_bytes_are_valid_there():
    for begin in range(len(TRADITIONAL) - 6):
        part = TRADITIONAL[begin : begin + 6]
        part.encode("big5").decode("gb18030", "replace")
        assert decode_any(part.encode("big5")) == (part, 0)
        assert decode_any(part.encode("gb18030")) == (part, 0)


def test_broken_bytes_against_a_count_of_what_was_put_in():
    data = TEXTS[0].encode()
    for at in range(0, len(data), 3):
        assert data[at : at + 1].isascii() or decode(data[:at] + b"\xff\xfe" + data[at:])[1] >= 2
    assert decode("一\ufffd二".encode()) == ("一\ufffd二", 0)
    assert decode(b"a\xff\xffb\xffc") == ("a\ufffdb\ufffdc", 3)
    assert decode("一".encode()[:2]) == ("\ufffd", 2)


def test_what_is_of_no_known_encoding_is_broken_utf_8():
    assert decode_any("déjà vu".encode("latin-1"))[1] > 0
    assert decode_any(b"") == ("", 0)
