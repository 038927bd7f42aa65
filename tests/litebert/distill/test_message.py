"""Answers on their way: each says what it is of, and whether it is as it was sent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from litebert.distill.message import Asked, pack, read, unpack, written
from tests.litebert.distill.services import equal


def test_messages_say_what_they_are_of() -> None:
    asked, columns = Asked("a", "train", 3, 0), {"rows": np.arange(12, dtype=np.float16).reshape(4, 3)}
    assert equal(unpack([pack(asked, columns)], asked, 4), columns)
    for other, masked, said in (
        (dataclasses.replace(asked, block=4), 4, "the answer is to"),
        (asked, 5, r"column rows is float16 \[4, 3\], not of 5 masked tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            unpack([pack(asked, columns)], other, masked)
    with pytest.raises(ValueError, match="no answer, but columns x"):
        unpack([pa.RecordBatch.from_pydict({"x": [1]})], asked, 4)


@pytest.mark.parametrize("place", range(9))
def test_a_damaged_recording_is_no_answer(tmp_path: Path, place: int) -> None:
    asked, columns = Asked("a", "train", 3, 0), {"rows": np.arange(600, dtype=np.float16).reshape(200, 3)}
    content = bytearray(written(asked, columns))
    (tmp_path / "block").write_bytes(content)
    assert equal(read(tmp_path / "block", asked, 200), columns)
    content[len(content) * place // 9] ^= 0x55
    (tmp_path / "block").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        read(tmp_path / "block", asked, 200)
