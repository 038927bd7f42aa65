"""A block: the columns of a few hundred samples as numpy files, one WebDataset sample of a tar."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples, concatenate
from data_tools.samples.masks import Masks

Array = npt.NDArray[np.generic]
# numpy's own reader parses the header as Python; a block has a dozen, and that was a third of reading it.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][uif][1248])', 'fortran_order': False, "
    rb"'shape': \((\d+),(?: (\d+))?\), \} *\n",
    re.DOTALL,
)
_MASK_COLUMNS = tuple(field.name for field in dataclasses.fields(Masks))


@dataclasses.dataclass(frozen=True)
class Block:
    """Samples and one masked copy of them, as read back."""

    samples: Samples
    masks: Masks

    def take(self, index: I64) -> Block:
        """The samples at the indices, in that order."""
        return Block(self.samples.take(index), self.masks.take(index))


def join(blocks: Sequence[Block]) -> Block:
    """Blocks end to end, as one. At least one."""
    masks = (np.concatenate([getattr(block.masks, name) for block in blocks]) for name in _MASK_COLUMNS)
    return Block(concatenate([block.samples for block in blocks]), Masks(*masks))


def id_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """The smallest type that holds every id."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def encode(samples: Samples, copies: Sequence[Masks], vocab_size: int) -> dict[str, bytes]:
    """The members of a block, by suffix, in the order they are written."""
    ids = id_dtype(vocab_size)
    members: dict[str, Array] = {
        "ids": samples.ids.astype(ids),
        "lengths": samples.lengths.astype(np.uint16),
        "first": samples.first.astype(np.uint16),
        "order": samples.order,
        "words": np.packbits(samples.words),
        "document": samples.documents,
        "number": samples.numbers,
        "source": samples.sources,
    }
    for copy, masks in enumerate(copies):
        members[f"positions.{copy}"] = masks.positions.astype(np.uint16)
        members[f"inputs.{copy}"] = masks.inputs.astype(ids)
        members[f"counts.{copy}"] = masks.counts.astype(np.uint16)
    return files(members)


def decode(members: Mapping[str, memoryview], copy: int) -> Block:
    """A block from its members. Raises ValueError where one is missing or is not a plain numpy array."""
    ids = column(members, "ids").astype(np.int32)
    samples = Samples(
        ids=ids,
        words=np.unpackbits(column(members, "words"), count=len(ids)).astype(bool),
        lengths=column(members, "lengths").astype(np.int64),
        first=column(members, "first").astype(np.int64),
        order=column(members, "order"),
        documents=column(members, "document"),
        numbers=column(members, "number"),
        sources=column(members, "source"),
    )
    masks = Masks(
        positions=column(members, f"positions.{copy}").astype(np.int64),
        inputs=column(members, f"inputs.{copy}").astype(np.int32),
        counts=column(members, f"counts.{copy}").astype(np.int64),
    )
    return Block(samples, masks)


def files(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    """The members of a block, by suffix, from its arrays by name, each of one axis or two."""
    return {f"{name}.npy": _dump(array) for name, array in arrays.items()}


def _dump(array: Array) -> bytes:
    """The bytes that ``np.save`` gives an array, in a fraction of the time: its header is 128 bytes long."""
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00\x76\x00" + header.encode("ascii") + array.tobytes()


def column(members: Mapping[str, memoryview], name: str) -> npt.NDArray:
    """The array of a member, a view of its bytes. Raises ValueError where it is missing or no plain array."""
    data = members.get(f"{name}.npy")
    if data is None:
        raise ValueError(f"has no member {name}.npy")
    header = _HEADER.match(data)
    if header is None:
        raise ValueError(f"{name}.npy is not an array of numbers, of one axis or two, in numpy's format 1.0")
    shape = [int(size) for size in header.groups()[1:] if size]
    return np.frombuffer(data, header[1].decode(), math.prod(shape), header.end()).reshape(shape)
