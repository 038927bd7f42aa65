"""Build training shards from documents."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from data_tools.build import BuildConfig, build
from data_tools.commands.corpus import add_inputs, listed
from data_tools.commands.recipe import Recipe
from data_tools.executors.interface import Executor
from data_tools.executors.local import LocalExecutor
from data_tools.executors.slurm import SlurmConfig, SlurmExecutor
from data_tools.samples.fairness import Fairness

_TASKS = 16


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--config", action=Recipe, help="YAML file with any of the keys below")
    add_inputs(parser)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--rejects",
        type=Path,
        help="new file to keep all that is rejected in, as jsonl; one that is there is never overwritten, and of a"
        " finished build it is only checked",
    )
    parser.add_argument(
        "--executor", type=Literal["local", "slurm"], default="local", help="this machine, or job arrays of a cluster"
    )
    parser.add_argument("--workers", type=int, default=1, help="local: processes; any number gives the same result")
    parser.add_argument("--tasks", type=int, default=_TASKS, help="slurm: tasks of a job array; any number, too")
    parser.add_argument("--slurm", type=SlurmConfig, default=SlurmConfig())
    parser.add_class_arguments(BuildConfig)


def run(options: Namespace) -> None:
    """Build, and print what was built and rejected."""
    config = BuildConfig(**{field.name: options[field.name] for field in dataclasses.fields(BuildConfig)})
    executor: Executor = LocalExecutor(options.workers)
    if options.executor == "slurm":
        executor = SlurmExecutor(options.tasks, options.slurm)
    elif options.tasks != _TASKS:
        raise ValueError(f"--tasks {options.tasks} is for --executor slurm; give --workers for this machine")
    manifest = build(
        options.input, options.tokenizer, options.output, config, options.workers, options.rejects, executor
    )
    for name, split in manifest.splits.items():
        print(
            f"{options.output}: {name}: {split.documents:,} documents, {split.samples:,} samples,"
            f" {split.tokens:,} tokens, {len(split.shards)} shards"
        )
        print(f"{options.output}: {name}: {Fairness(**split.fairness)}")
    broken = f"; {manifest.broken_bytes:,} broken bytes" if manifest.broken_bytes else ""
    print(
        f"{options.output}: {manifest.documents_read:,} documents read; rejected: {listed(manifest.rejected)}{broken}"
    )
