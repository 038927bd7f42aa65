"""What of a run can be known to fail before any of its nodes is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_tools.shards.manifest import Manifest
from litebert.plan.memory import Amount

_SHOWN = 3  # of the shards that are not whole


def problems(data: Sequence[str], run: Path, needed: Amount) -> list[str]:
    """What keeps a run from its data and its folder; changes nothing.

    Args:
        data: folders of shards; shards at URLs are looked at when they are read. Sizes are compared here, contents
            when they are read, and by ``python -m data_tools verify``.
        run: folder of the run, which need not be there yet.
        needed: bytes that its checkpoints may come to take.
    """
    found = [line for folder in data if "://" not in folder for line in _unwhole(Path(folder))]
    more = len(found) - _SHOWN
    found = found[:_SHOWN] + [f"and {more} shards more"] * (more > 0)
    existing = next(path for path in (run, *run.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return [*found, f"{existing} cannot be written to: choose another --run"]
    taken = sum(path.stat().st_size for path in run.glob("checkpoints/*/*"))
    if (free := shutil.disk_usage(existing).free) < needed.value - taken:
        found.append(
            f"{existing} has {free / 1e9:,.1f} GB left, and checkpoints may take {needed.value / 1e9:,.1f} "
            f"({needed.how}): make room, keep fewer (train.keep_last), or choose another --run"
        )
    return found


def _unwhole(folder: Path) -> Iterator[str]:
    for split in Manifest.load(folder).splits.values():
        for shard in split.shards:
            path = folder / shard.name
            if not path.is_file():
                yield f"{path} is missing: copy the folder again"
            elif path.stat().st_size != shard.bytes:
                yield f"{path} has {path.stat().st_size:,} bytes instead of {shard.bytes:,}: copy the folder again"
