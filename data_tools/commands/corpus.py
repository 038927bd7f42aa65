"""What verbs that read a corpus share: the option that names it, and how its rejects are listed."""

from __future__ import annotations

from collections.abc import Mapping

from jsonargparse import ArgumentParser


def add_inputs(parser: ArgumentParser, required: bool = True) -> None:
    """Add ``--input``."""
    parser.add_argument(
        "--input",
        type=str,
        nargs="+",
        required=required,
        help="files, folders, globs or URLs of jsonl, parquet, csv, tsv, text, html, xml, WARC, WikiExtractor's output"
        " or manual pages, plain or gz/bz2/xz/zst, in UTF-8, UTF-16, GB18030 or Big5",
    )


def listed(rejected: Mapping[str, int]) -> str:
    """Rejects by reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items())) or "none"
