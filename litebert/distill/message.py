"""A block's answers as an Arrow record batch: what a teacher sends, and what a recording keeps of it.

A row for each megabyte of each column: its name, dtype, shape, bytes, the CRC-32 of the bytes, and how many rows
follow. A row is sent by itself, so that whoever waits hears of it. Which block they are of stands in the schema, so
that no answer is taken for another block's.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_OF = b"of"
_CHECKSUM = struct.Struct("<I")
_FIELDS = {
    "name": pa.string(),
    "dtype": pa.string(),
    "shape": pa.list_(pa.int64()),
    "bytes": pa.large_binary(),
    "crc32": pa.uint32(),
    "follow": pa.int64(),
}
_MOST = 1 << 20  # bytes of a row


@dataclasses.dataclass(frozen=True, order=True)
class Asked:
    """What is asked of a teacher.

    Attributes:
        of: what the answer is a function of beside the block: ``Taught.answered``.
        split: name of it.
        block: its number in the manifest.
        copy: the masked copy.
    """

    of: str
    split: str
    block: int
    copy: int

    def packed(self) -> bytes:
        """As a ticket."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @classmethod
    def parse(cls, content: bytes) -> Asked:
        """From a ticket. Raises ValueError where it is none."""
        try:
            asked = cls(**json.loads(content))
            kinds = (str, str, int, int)
            if not all(type(value) is kind for value, kind in zip(vars(asked).values(), kinds, strict=True)):
                raise TypeError("a value of the wrong kind")
            return asked
        except (TypeError, ValueError) as error:
            raise ValueError(f"no ticket of a block: {error}") from error

    def __str__(self) -> str:
        return f"{self.split} block {self.block}, copy {self.copy}"


def schema(asked: Asked) -> pa.Schema:
    """Of the answers to what is asked."""
    return pa.schema(_FIELDS.items(), {_OF: asked.packed()})


def pack(asked: Asked, columns: Mapping[str, npt.NDArray]) -> pa.RecordBatch:
    """The answers, each [masked, ...], by name."""
    rows = []
    for name, values in columns.items():
        content = memoryview(np.ascontiguousarray(values).tobytes())
        parts = [content[begin : begin + _MOST] for begin in range(0, max(1, len(content)), _MOST)]
        rows += [(name, values.dtype.str, list(values.shape), part, zlib.crc32(part)) for part in parts]
    arrays = [*zip(*rows, strict=True), range(len(rows) - 1, -1, -1)]
    typed = [pa.array(values, kind) for values, kind in zip(arrays, _FIELDS.values(), strict=True)]
    return pa.RecordBatch.from_arrays(typed, schema=schema(asked))


def are_whole(rows: Sequence[pa.RecordBatch]) -> bool:
    """Whether no more rows follow."""
    return bool(rows) and rows[-1].num_rows > 0 and rows[-1].column("follow")[-1].as_py() == 0


def unpack(rows: Sequence[pa.RecordBatch], asked: Asked, masked: int) -> dict[str, npt.NDArray]:
    """The answers to what was asked, from their rows in order.

    Raises ValueError where they are to something else, of another number of masked tokens, or not as they were sent.
    """
    for batch in rows:
        if not batch.schema.remove_metadata().equals(schema(asked).remove_metadata()):
            raise ValueError(f"{asked}: no answer, but columns {', '.join(batch.schema.names)}")
        if (of := (batch.schema.metadata or {}).get(_OF)) != asked.packed():
            raise ValueError(f"{asked}: the answer is to {of!r}")
    described: dict[str, tuple[str, list[int]]] = {}
    parts: dict[str, list[pa.Buffer]] = {}
    for batch in rows:
        for row in range(batch.num_rows):
            name, dtype, shape, content, crc32, _ = (batch.column(place)[row] for place in range(batch.num_columns))
            if zlib.crc32(content.as_buffer()) != crc32.as_py():
                raise ValueError(f"{asked}: column {name} is not as it was sent")
            described[name.as_py()] = dtype.as_py(), shape.as_py()
            parts.setdefault(name.as_py(), []).append(content.as_buffer())
    columns = {}
    for name, (dtype, size) in described.items():
        kind = np.dtype(dtype)
        if kind.hasobject or not size or size[0] != masked:
            raise ValueError(f"{asked}: column {name} is {kind} {size}, not of {masked} masked tokens")
        columns[name] = np.frombuffer(b"".join(parts[name]), kind).reshape(size)
    return columns


def written(asked: Asked, columns: Mapping[str, npt.NDArray]) -> bytes:
    """The content of a file of answers: its CRC-32, and an Arrow file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema(asked)) as writer:
        writer.write_batch(pack(asked, columns))
    content = sink.getvalue().to_pybytes()
    return _CHECKSUM.pack(zlib.crc32(content)) + content


def read(path: Path, asked: Asked, masked: int) -> dict[str, npt.NDArray]:
    """A file of answers. Raises FileNotFoundError, or ValueError as ``unpack``."""
    content = memoryview(path.read_bytes())
    own, rest = content[: _CHECKSUM.size], content[_CHECKSUM.size :]
    if own != _CHECKSUM.pack(zlib.crc32(rest)):  # Arrow trusts what it reads
        raise ValueError(f"{path} is damaged")
    return unpack([pa.ipc.open_file(rest).get_batch(0)], asked, masked)
