"""The format of a folder of stored soft targets, which stands beside a folder of shards.

manifest.json              what they are of, who gave them, how they are kept, where every block lies
train-00012.soft.tar       beside train-00012.tar: a block for each of its blocks and copies, all of a copy together
    00012-00034.rows.0.npy     column ``rows`` of copy 0, a row for each masked token of block 00012-00034, in order
head.safetensors           the teacher's masked-word head, where the codec needs it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy.typing as npt

from data_tools.shards import blocks, tar
from litebert.distill.codecs import Codec, CodecConfig
from litebert.model.encoder import ModelConfig

FORMAT = 1
FILE = "manifest.json"
REMEDY = "run launcher/teach.py again for another --output"
_SUFFIX = ".soft.tar"


@dataclasses.dataclass(frozen=True)
class Copy:
    """The blocks of one masked copy in a sidecar.

    Attributes:
        name: of the sidecar.
        positions: masked tokens of each block.
        offsets: where each block begins in the file, and, last, where the last one ends.
        checksums: CRC-32 of each block's bytes.
    """

    name: str
    positions: list[int]
    offsets: list[int]
    checksums: list[int]

    def is_sound(self, size: int) -> bool:
        """Whether its lists are of as many blocks, one behind the other in a file of that size."""
        count, ends = len(self.positions), [0, *self.offsets, size]
        numbers = all(isinstance(number, int) for number in (*self.positions, *ends, *self.checksums))
        return count == len(self.checksums) == len(self.offsets) - 1 and numbers and ends == sorted(ends)


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """One tar.

    Attributes:
        name: file name beside the manifest.
        bytes: size of the file.
        sha256: of the file, in hex.
        copies: the blocks of each copy, in the order of ``Taught.copies``.
    """

    name: str
    bytes: int
    sha256: str
    copies: list[Copy]

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Sidecar:
        """From JSON. Raises KeyError or TypeError where it is another thing."""
        return cls(**{**fields, "copies": [Copy(**copy) for copy in fields["copies"]]})

    def is_sound(self, copies: Sequence[int]) -> bool:
        """Whether it is a file beside the manifest, and says of each copy where the same blocks lie in it."""
        blocks = {len(copy.positions) for copy in self.copies}
        return (
            self.name == PurePath(self.name).name
            and self.name.endswith(_SUFFIX)
            and len(self.copies) == len(copies)
            and len(blocks) == 1
            and all(copy.name == self.name and copy.is_sound(self.bytes) for copy in self.copies)
        )


@dataclasses.dataclass(frozen=True)
class Taught:
    """What soft targets are a function of: another is another folder.

    Attributes:
        data: fingerprint of the folder of shards.
        content: of each split's samples and masks, by its name.
        tokenizer: SHA-256 of the tokenizer, in hex.
        teacher: its fingerprint.
        model: its shape.
        precision: that it computed in, fp32 or bf16.
        micro_tokens: that it read at once.
        codec: what is kept of its answers.
        seed: of draws.
        copies: masked copies that there are answers to, of each split, ascending.
        columns: dtype, in numpy's words, and shape of a position's row, by column.
        head: SHA-256 of head.safetensors, in hex; None where the codec needs none.
        format: version of this format.
    """

    data: str
    content: dict[str, str]
    tokenizer: str
    teacher: str
    model: ModelConfig
    precision: str
    micro_tokens: int
    codec: CodecConfig
    seed: int
    copies: dict[str, list[int]]
    columns: dict[str, tuple[str, list[int]]]
    head: str | None
    format: int = FORMAT

    def __str__(self) -> str:
        """Who answers, and how, in words that differ where answers to the same data do."""
        return f"teacher {self.teacher[:12]}, {self.precision}, {self.codec}, seed {self.seed}"

    @property
    def answered(self) -> str:
        """SHA-256 of all that an answer to a block depends on, in hex: not where the shards are, nor which copies."""
        fields = self.fields
        for name in ("data", "copies"):
            del fields[name]
        return sha256(json.dumps(fields, sort_keys=True).encode())

    @property
    def fields(self) -> dict[str, Any]:
        """Itself as JSON has it."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), sort_keys=True))
        return fields

    @classmethod
    def parse(cls, fields: Mapping[str, Any], where: str) -> Taught:
        """From JSON. Raises ValueError where it is another thing, or of another format; ``where`` it was found."""
        try:
            if fields["format"] != FORMAT:
                raise ValueError(f"{where} is of format {fields['format']}; this version reads {FORMAT}: teach again")
            own = {field.name: fields[field.name] for field in dataclasses.fields(cls)}
            return cls(**{**own, "model": ModelConfig(**own["model"]), "codec": CodecConfig(**own["codec"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where} is not of soft targets ({error!r}): give another folder") from error


@dataclasses.dataclass(frozen=True)
class SoftManifest:
    """A finished folder: what it is of, and its sidecars by split, in the order of the split's shards."""

    taught: Taught
    splits: dict[str, list[Sidecar]]

    def content(self) -> bytes:
        """Of manifest.json."""
        splits = {name: [dataclasses.asdict(sidecar) for sidecar in split] for name, split in self.splits.items()}
        return (json.dumps({**self.taught.fields, "splits": splits}, sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, content: bytes, where: str) -> SoftManifest:
        """From the content of a file. Raises ValueError, with where it was found, if it is no such thing."""
        try:
            fields = json.loads(content)
            splits = {name: [Sidecar.parse(each) for each in split] for name, split in fields.pop("splits").items()}
            taught = Taught.parse(fields, where)
            problem = _problem(taught, splits)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{where} is not a manifest of soft targets ({error!r}): give another folder") from error
        if problem:
            raise ValueError(f"{where} is damaged ({problem}): put it back, or {REMEDY}")
        return cls(taught, splits)


def _problem(taught: Taught, splits: Mapping[str, list[Sidecar]]) -> str:
    """What in a manifest cannot be, or nothing."""
    if not splits.keys() == taught.content.keys() == taught.copies.keys():
        return f"its sidecars are of {', '.join(splits)}, its copies of {', '.join(taught.copies)}"
    unsound = [each.name for name, split in splits.items() for each in split if not each.is_sound(taught.copies[name])]
    return f"what it says of {unsound[0]!r} does not fit together" if unsound else ""


def name_of(shard: str) -> str:
    """The sidecar of a shard: both file names."""
    return shard.removesuffix(".tar") + _SUFFIX


def columns_of(codec: Codec) -> dict[str, tuple[str, list[int]]]:
    """Of a codec, as ``Taught`` has them."""
    return {
        name: (str(column.dtype).removeprefix("torch."), list(column.shape)) for name, column in codec.columns.items()
    }


def members(columns: Mapping[str, npt.NDArray], copy: int) -> dict[str, bytes]:
    """The files of a block, by suffix."""
    return blocks.files({f"{name}.{copy}": rows for name, rows in columns.items()})


def copy_of(name: str, writer: tar.ShardWriter, positions: list[int]) -> Copy:
    """The copy that was written last, of so many blocks."""
    count = len(positions)
    return Copy(name, positions, writer.offsets[-count - 1 :], writer.checksums[-count:])


def sha256(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()
