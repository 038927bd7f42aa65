"""Check every byte and count of a folder of shards."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from data_tools.verification import verify


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shards", type=Path, help="folder of the shards")


def run(options: Namespace) -> None:
    """Print what was checked. Raises ValueError that names everything wrong."""
    print(verify(options.shards))
