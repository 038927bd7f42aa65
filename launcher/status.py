"""How a run is doing, from its folder alone: python launcher/status.py RUN

It may be looked at while the run trains, on any node that has the folder; whether it trains is told by the lock of the
folder, where the file system shares that between nodes.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from litebert.recipe import Recipe
from litebert.train.checkpoint import published, read
from litebert.train.journal import errors
from litebert.train.metrics import BAD, SHOWN, lines_of
from litebert.train.run import LOCK, ROLLBACKS

LAST = 3  # errors that are shown
RECENT = 10  # lines of metrics that the speed is the median of
STARTS = ".starts"  # a line for each, by slurm/job.sh


def status(run: Path) -> list[str]:
    """Lines to print. Raises ValueError where there is no run."""
    if not (run / "recipe.yaml").is_file():
        raise ValueError(f"{run}: not a run that has begun (no recipe.yaml): give the folder given as --run")
    lines = lines_of(run)
    steps = Recipe.from_dict(yaml.safe_load((run / "recipe.yaml").read_text())).train.steps
    kept = published(run)
    last: dict[str, Any] = lines[-1] if lines else {"step": 0}
    shown = [
        f"state   {_state(run)}",
        f"step    {last['step']:,} of {steps:,}, newest checkpoint {read(kept[-1]).step if kept else 0:,}",
    ]
    if lines:
        latest = {name: value for line in lines for name, value in line.items()}  # held-out figures are of few lines
        shown.append("losses  " + "  ".join(f"{name} {latest[name]:{SHOWN[name]}}" for name in SHOWN if name in latest))
        speed = statistics.median(line["tokens_per_s"] for line in lines[-RECENT:])
        shown.append(f"speed   {speed:,.0f} tokens/s")
    if len(kept) > 1 and last["step"] < steps:
        left = datetime.timedelta(seconds=round((steps - last["step"]) * _pace(*kept[-2:])))
        shown.append(f"to go   {left}, at the pace between the last two checkpoints")
    return [*shown, *_troubles(run, lines)]


def _pace(before: Path, newest: Path) -> float:
    """Seconds of a step, by when two checkpoints were written; what a run waited between them counts as well."""
    written = [(folder / "checkpoint.json").stat().st_mtime for folder in (before, newest)]
    return (written[1] - written[0]) / (read(newest).step - read(before).step)


def _state(run: Path) -> str:
    if (run / "done.json").exists():
        return "done"
    written = max(path.stat().st_mtime for path in (run / LOCK, run / "metrics.jsonl") if path.exists())
    since = f"last sign {datetime.timedelta(seconds=round(time.time() - written))} ago"
    with (run / LOCK).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"training; {since}"
    return f"not training: waiting, stopped or dead; {since}"


def _troubles(run: Path, lines: list[dict[str, Any]]) -> list[str]:
    found = []
    if (starts := run / STARTS).exists():
        begun = starts.read_text().splitlines()
        found.append(f"starts  {len(begun)}, the last {begun[-1]}")
    if bad := sum(line.get(BAD, 0) for line in lines):
        found.append(f"errors  {bad} steps were not finite and changed nothing")
    if (rollbacks := run / ROLLBACKS).exists():
        backs = [f"{back['first']}-{back['last']} with {back['reason']}" for back in json.loads(rollbacks.read_text())]
        found.append(f"errors  went back, and left out steps {'; '.join(backs)}")
    return [*found, *(f"errors  {line}" for line in errors(run)[-LAST:])]


def main() -> int:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    options = parser.parse_args()
    try:
        print("\n".join(status(options.run)))
    except (ValueError, OSError) as error:
        print(f"status: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
