"""Count what shards hold: tables on standard output, plots into a folder."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from data_tools.shards.manifest import Manifest
from data_tools.statistics.counts import counted
from data_tools.statistics.tables import tables
from data_tools.text.huggingface import load_tokenizer


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shards", type=Path, help="folder of the shards")
    parser.add_argument("--output", type=Path, help="folder for PNG plots; without it there are tables alone")
    parser.add_argument("--frequent", type=int, default=30, help="most frequent tokens to list")


def run(options: Namespace) -> None:
    """Print the tables, write the plots."""
    if options.frequent < 0:
        raise ValueError(f"--frequent {options.frequent} is negative")
    manifest = Manifest.load(options.shards)
    tokenizer = load_tokenizer(options.shards / "tokenizer")
    counts = counted(options.shards, manifest, tokenizer.vocabulary.mask)
    print("\n\n".join(tables(manifest, counts, tokenizer, options.frequent)))
    if options.output is not None:
        from data_tools.statistics.plots import plot  # matplotlib takes longer to load than other verbs to run

        for path in plot(options.output, manifest, counts):
            print(f"\n{path}", end="")
        print()
