"""Any block of a shard, straight from its offset."""

from __future__ import annotations

import zlib
from pathlib import Path

from data_tools.shards import blocks, tar
from data_tools.shards.manifest import Shard


class ShardReader:
    """Reads the blocks of one shard, in any order."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.path = folder / shard.name
        self.shard = shard

    def read(self, block: int, copy: int) -> blocks.Block:
        """A block with one of its masked copies. Raises ValueError that names shard and block if it is damaged."""
        begin, end = self.shard.offsets[block], self.shard.offsets[block + 1]
        try:
            with self.path.open("rb") as stream:
                stream.seek(begin)
                data = stream.read(end - begin)
        except FileNotFoundError:
            raise ValueError(f"{self.path}: missing; build the shards again") from None
        where = f"{self.path}, block {block} at byte {begin}"
        if zlib.crc32(data) != self.shard.checksums[block]:
            raise ValueError(f"{where}: damaged (its checksum is not the manifest's); build the shards again")
        try:
            return blocks.decode(tar.members(data), copy)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
