"""Proves from a run's ledger that each epoch saw each sample exactly once, in the planned order.

python launcher/verify.py RUN [--data SHARDS ...]

It counts the steps that the newest sound checkpoint does; what follows them is of a run that was cut off before its
next checkpoint, and is said to be.

Exit codes: 0 it did, 1 it did not and the first difference is named, 2 something is wrong and said.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.shards.cache import Cache
from litebert.data.corpus import Corpus
from litebert.data.plan import Plan
from litebert.recipe import Recipe
from litebert.train.audit import Audit, audit
from litebert.train.checkpoint import latest
from litebert.train.ledger import FILE, RECORD, disagreement, read
from litebert.train.run import recorded, ruled_out


def verify(run: Path, data: list[str]) -> tuple[list[str], bool]:
    """Checks the ledger of a run.

    Args:
        data: its folders of shards, where they are no longer where the run found them.

    Returns:
        lines to print, and whether all is as planned.

    Raises:
        ValueError: that cannot be told.
    """
    record = run / "run.json"
    if not record.is_file() or not (run / FILE).is_file():
        raise ValueError(f"{run}: not a run with a ledger (run.json and {FILE}); give the folder given as --run")
    content = recorded(run)
    if not (data := data or _places(content.get("data"))):
        raise ValueError(f"{record} does not say where its data lie: give them as --data SHARDS")
    try:
        config = Recipe.from_dict(content["recipe"]).data
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{record}: not the record of a run ({error}): put it back") from None
    cache = Cache(Path(config.cache).expanduser(), int(config.cache_gb * 1e9))
    corpus = Corpus.opened(data, "train", cache)
    if corpus.fingerprint != content["fingerprints"].get("data"):
        raise ValueError(f"{run} was trained on other data than {', '.join(data)}: give its own")
    lines: list[str] = []
    left_out = ruled_out(run)
    checkpoint = latest(run, lines.append, left_out)
    if not checkpoint:
        raise ValueError(
            "; ".join([f"{run}: no checkpoint counts any of its steps; let it train until one does", *lines])
        )
    commit = checkpoint.info["ledger"]
    records, torn = read(run / FILE)
    after = len(records) * RECORD.itemsize + torn - commit["bytes"]
    if after > 0:
        lines.append(
            f"{run}: {after} bytes of the ledger are left aside: no checkpoint counts them, for the run was cut off "
            f"after {checkpoint.folder.name}; it does their steps again"
        )
    found = audit(records[: commit["bytes"] // RECORD.itemsize], Plan(corpus, config), config.global_batch, left_out)
    found = dataclasses.replace(found, difference=found.difference or disagreement(records, commit))
    return [*lines, *_lines(run, corpus, found)], not found.difference


def _places(data: Any) -> list[str]:
    """Folders of shards, as a record has them; none where it has something else."""
    return data if isinstance(data, list) and all(isinstance(place, str) for place in data) else []


def _lines(run: Path, corpus: Corpus, found: Audit) -> list[str]:
    lines = []
    if len(found.skipped):
        lines.append(f"{run}: left out by roll-backs: steps {_ranges(found.skipped)}")
    if len(found.refused):
        lines.append(f"{run}: fed, but not learnt from, for they were not finite: steps {_ranges(found.refused)}")
    ends = np.append(corpus.sample_begins[1:], corpus.samples)
    folders = np.searchsorted(ends, found.quarantined[:, 1], side="right")
    for folder, split in enumerate(corpus.splits):
        own = found.quarantined[folders == folder]
        begin = corpus.sample_begins[folder].astype(np.uint64)
        blocks = np.searchsorted(split.block_ends, own[:, 1] - begin, side="right")
        for block in np.unique(blocks).tolist():
            steps = own[blocks == block, 0]
            said = f"{len(steps)} samples of steps {_ranges(np.unique(steps))}"
            lines.append(f"{run}: in quarantine: {split.where(block)}: {said}")
    if found.difference:
        return [*lines, f"{run}: NOT as planned: {found.difference}"]
    epochs = ", ".join(
        f"{done:.2f} epochs of {split.location}" for done, split in zip(found.epochs, corpus.splits, strict=True)
    )
    but = " but for what is listed above" if lines else ""
    return [
        *lines,
        f"{run}: as planned: {found.steps:,} steps of {found.trained:,} samples, {epochs}: each epoch saw each sample"
        f" exactly once{but}, in order",
    ]


def _ranges(numbers: np.ndarray) -> str:
    """Ascending numbers, briefly: 3-5, 9."""
    groups = itertools.groupby(enumerate(numbers.tolist()), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def main() -> int:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--data", nargs="+", default=[], help="its folders of shards, if they have moved")
    options = parser.parse_args()
    try:
        lines, sound = verify(options.run, options.data)
    except (ValueError, OSError) as error:
        print(f"verify: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
