"""Build training shards from documents."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from data_tools.build import BuildConfig, build
from data_tools.commands.corpus import add_inputs, listed


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the keys below")
    add_inputs(parser)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--rejects", type=Path, help="file to keep all that is rejected in, as jsonl")
    parser.add_argument("--workers", type=int, default=1, help="processes; the result is the same for any number")
    parser.add_class_arguments(BuildConfig)


def run(options: Namespace) -> None:
    """Build, and print what was built and rejected."""
    config = BuildConfig(**{field.name: options[field.name] for field in dataclasses.fields(BuildConfig)})
    manifest = build(options.input, options.tokenizer, options.output, config, options.workers, options.rejects)
    for name, split in manifest.splits.items():
        print(
            f"{options.output}: {name}: {split.documents:,} documents, {split.samples:,} samples,"
            f" {split.tokens:,} tokens, {len(split.shards)} shards"
        )
    broken = f"; {manifest.broken_bytes:,} broken bytes" if manifest.broken_bytes else ""
    print(
        f"{options.output}: {manifest.documents_read:,} documents read; rejected: {listed(manifest.rejected)}{broken}"
    )
