"""manifest.json: what a folder of shards holds, where every block lies, and what it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

FORMAT = 2
FILE = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One tar.

    Attributes:
        name: file name beside the manifest.
        bytes: size of the file.
        sha256: of the file, in hex.
        tokens: of all its samples.
        samples: of each block.
        offsets: where each block begins in the file, and, last, where the last one ends.
        checksums: CRC-32 of each block's bytes.
    """

    name: str
    bytes: int
    sha256: str
    tokens: int
    samples: list[int]
    offsets: list[int]
    checksums: list[int]


@dataclasses.dataclass(frozen=True)
class SplitEntry:
    """One split.

    Attributes:
        documents: that are in it, each counted once.
        characters: of them, canonical.
        samples, tokens, pairs: totals, repetitions included.
        masked: tokens, by copy.
        shards: its tars.
        index: SHA-256 of its index files, by name.
        sources: documents, characters and samples of each source.
        fairness: how far windows of consecutive samples are from the corpus (``samples.fairness``).
    """

    documents: int
    characters: int
    samples: int
    tokens: int
    pairs: int
    masked: list[int]
    shards: list[Shard]
    index: dict[str, str]
    sources: dict[str, dict[str, int]]
    fairness: dict[str, Any]

    @property
    def content(self) -> str:
        """What identifies its samples, in hex: the bytes of its shards, whatever is said of how they came to be."""
        return hashlib.sha256(" ".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A folder of shards.

    Attributes:
        build: fingerprint of everything the shards are a function of: inputs, config, tokenizer, segmenter, format.
        tokenizer: SHA-256 of the tokenizer, in hex.
        vocab_size: number of ids.
        segmenter: name and version of what found the words, and the SHA-256 of each user dictionary.
        inputs: SHA-256 over the input files.
        config: the whole build config.
        documents_read: documents in, and files and records that hold none; kept and rejected ones add up to it.
        rejected: of them, by reason.
        splits: by name.
        sources: names, at the numbers that samples have.
        tokenizer_kind: what the tokenizer is, ``sentencepiece`` or ``wordpiece``.
        broken_bytes: found in all of them, replaced or rejected.
        format: version of this format.
    """

    build: str
    tokenizer: str
    vocab_size: int
    segmenter: str
    inputs: str
    config: dict[str, Any]
    documents_read: int
    rejected: dict[str, int]
    splits: dict[str, SplitEntry]
    sources: list[str]
    tokenizer_kind: str = "sentencepiece"
    broken_bytes: int = 0
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """What identifies the data, in hex: every byte of every shard, and how to read them."""
        return hashlib.sha256(self._json().encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write manifest.json into a folder."""
        (folder / FILE).write_text(self._json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of a folder. Raises ValueError if there is none, or it is of another format."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise ValueError(f"no shards at {folder}: there is no {FILE}; make them with: python -m data_tools build")
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, path: str) -> Manifest:
        """The manifest that was saved as a file's content. Raises ValueError, with its path, if it is no such thing."""
        try:
            fields = json.loads(content)
            if fields["format"] != FORMAT:
                raise ValueError(f"{path} is of format {fields['format']}; this version reads {FORMAT}: build again")
            fields["splits"] = {
                name: SplitEntry(**{**split, "shards": [Shard(**shard) for shard in split["shards"]]})
                for name, split in fields["splits"].items()
            }
            found = cls(**fields)
            _ = found.config["pairs"]["seq_length"], found.config["pairs"]["objective"]  # what every reader needs of it
            if elsewhere := [
                shard.name for split in found.splits.values() for shard in split.shards if "/" in shard.name
            ]:
                raise ValueError(f"{path} names {elsewhere[0]!r}, which is not beside it: build again")
            return found
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a manifest of shards ({error!r}): build again") from error

    def _json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True, indent=1) + "\n"


def already_built(output: Path, build: str) -> Manifest:
    """The manifest of a folder that was built before. Raises ValueError where it is not that build, or not whole."""
    try:
        found = Manifest.load(output)
    except (ValueError, NotADirectoryError):
        raise ValueError(f"{output} exists and is not a folder of shards; give another --output") from None
    if found.build != build:
        raise ValueError(f"{output} holds shards of other text, config or tokenizer; give another --output")
    for shard in (shard for split in found.splits.values() for shard in split.shards):
        path = output / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise ValueError(f"{path} is missing or cut off; remove {output} and build again")
    return found


def build_fingerprint(inputs: str, tokenizer: str, segmenter: str, config: dict[str, Any]) -> str:
    """What identifies a build, in hex, from the fields of its manifest."""
    fields = {"inputs": inputs, "tokenizer": tokenizer, "segmenter": segmenter, "config": config}
    return fingerprint({"format": FORMAT, **fields})


def fingerprint(fields: dict[str, Any]) -> str:
    """SHA-256 of JSON fields, in hex, whatever their order."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
