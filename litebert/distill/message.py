"""A block's answers as an Arrow record batch: what a teacher sends, and what a recording keeps of it.

A row for each column: its name, dtype, shape, bytes, and the CRC-32 of the bytes. Which block they are of stands in the
schema, so that no answer is taken for another block's.
"""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from collections.abc import Mapping
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
}


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
    rows = [(name, np.ascontiguousarray(values)) for name, values in columns.items()]
    content = [values.tobytes() for _, values in rows]
    arrays = [
        [name for name, _ in rows],
        [values.dtype.str for _, values in rows],
        [list(values.shape) for _, values in rows],
        content,
        [zlib.crc32(each) for each in content],
    ]
    typed = [pa.array(values, kind) for values, kind in zip(arrays, _FIELDS.values(), strict=True)]
    return pa.RecordBatch.from_arrays(typed, schema=schema(asked))


def unpack(batch: pa.RecordBatch, asked: Asked, masked: int) -> dict[str, npt.NDArray]:
    """The answers to what was asked, views of the batch.

    Raises ValueError where they are to something else, of another number of masked tokens, or not as they were sent.
    """
    if not batch.schema.remove_metadata().equals(schema(asked).remove_metadata()):
        raise ValueError(f"{asked}: no answer, but columns {', '.join(batch.schema.names)}")
    if (of := (batch.schema.metadata or {}).get(_OF)) != asked.packed():
        raise ValueError(f"{asked}: the answer is to {of!r}")
    columns = {}
    for row in range(batch.num_rows):
        name, dtype, shape, content, crc32 = (batch.column(place)[row] for place in range(batch.num_columns))
        buffer = content.as_buffer()
        if zlib.crc32(buffer) != crc32.as_py():
            raise ValueError(f"{asked}: column {name} is not as it was sent")
        kind, size = np.dtype(dtype.as_py()), shape.as_py()
        if kind.hasobject or not size or size[0] != masked:
            raise ValueError(f"{asked}: column {name} is {kind} {size}, not of {masked} masked tokens")
        columns[name.as_py()] = np.frombuffer(buffer, kind).reshape(size)
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
    return unpack(pa.ipc.open_file(rest).get_batch(0), asked, masked)
