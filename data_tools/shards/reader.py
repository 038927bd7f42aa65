"""Any block of a shard, straight from its offset."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from data_tools.shards import blocks, tar
from data_tools.shards.folder import Folder, LocalFolder


class DamagedBlock(ValueError):
    """A block whose bytes are not those that were written. The message names file, key and offset."""


class Blocks(Protocol):
    """Where blocks lie in a tar: its name, where each begins and the last one ends, and each one's CRC-32."""

    @property
    def name(self) -> str: ...
    @property
    def offsets(self) -> list[int]: ...
    @property
    def checksums(self) -> list[int]: ...


class ShardReader:
    """Reads the blocks of one shard, in any order."""

    def __init__(self, folder: Folder | Path, shard: Blocks, remedy: str = "build the shards again") -> None:
        """``remedy``: what to do about a damaged block, for a message."""
        self.folder = LocalFolder(folder) if isinstance(folder, Path) else folder
        self.shard, self._remedy = shard, remedy

    def where(self, block: int) -> str:
        """A block's file, key and offset, for a message."""
        number = self.shard.name.rpartition("-")[2].partition(".")[0]
        return (
            f"{self.folder.location}/{self.shard.name}, block {number}-{block:05d} at byte {self.shard.offsets[block]}"
        )

    def members(self, block: int) -> Mapping[str, memoryview]:
        """The files of a block, by suffix, whole as they were written.

        Raises DamagedBlock where they are not, ValueError where the shard cannot be read.
        """
        begin, end = self.shard.offsets[block], self.shard.offsets[block + 1]
        for afresh in (False, True):  # what came over a network may be damaged on the way
            data = self.folder.read(self.shard.name, begin, end, afresh)
            if zlib.crc32(data) == self.shard.checksums[block]:
                break
        else:
            found = "its checksum is not the manifest's" if len(data) == end - begin else "the file is cut off"
            raise DamagedBlock(f"{self.where(block)}: damaged ({found}); {self._remedy}")
        try:
            return tar.members(data)
        except ValueError as error:
            raise DamagedBlock(f"{self.where(block)}: {error}") from error

    def read(self, block: int, copy: int) -> blocks.Block:
        """A block with one of its masked copies. Raises as ``members``."""
        try:
            return blocks.decode(self.members(block), copy)
        except DamagedBlock:
            raise
        except ValueError as error:
            raise ValueError(f"{self.where(block)}: {error}") from error
