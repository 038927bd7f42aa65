"""Make shards with other masks, or more copies, from those that are there; what is not given stays as it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from data_tools.remasking import remask
from data_tools.samples.masks import MaskConfig

_KEPT = "as it was"  # not None, which is a seed that can be asked for


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shards", type=Path, help="folder of the shards")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--workers", type=int, default=1, help="processes; the result is the same for any number")
    parser.add_class_arguments(MaskConfig, "masks", instantiate=False)
    parser.set_defaults({f"masks.{field.name}": _KEPT for field in dataclasses.fields(MaskConfig)})


def run(options: Namespace) -> None:
    """Make them, and print what was made."""
    changes = {name: value for name, value in options.masks.items() if value != _KEPT}
    manifest = remask(options.shards, options.output, changes, options.workers)
    for name, split in manifest.splits.items():
        masked = ", ".join(f"{count:,}" for count in split.masked)
        print(f"{options.output}: {name}: {split.samples:,} samples, masked tokens by copy: {masked}")
