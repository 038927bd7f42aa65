"""How a run is doing, from its folder alone: python launcher/status.py RUN

It may be looked at while the run trains, on any node that has the folder. Whether it trains is told by the lock of the
folder, where the file system shares that between nodes; what else its job does, by what slurm/job.sh noted there.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from litebert.cluster.notes import Note, notes
from litebert.recipe import Recipe
from litebert.train.checkpoint import published, read
from litebert.train.journal import errors
from litebert.train.metrics import BAD, FILE, SHOWN, lines_of
from litebert.train.run import LOCK, begun, rolled_back, trains

LAST = 3  # errors that are shown
RECENT = 10  # lines of metrics that the speed is the median of
RECIPE = "recipe.yaml"


def status(run: Path) -> list[str]:
    """Lines to print. Raises ValueError where there is no run, or what it wrote is damaged."""
    if not begun(run) and not (run / RECIPE).is_file():
        raise ValueError(f"{run}: not a run that has begun, or waits to: give the folder given as --run")
    lines, jobs = lines_of(run), notes(run)
    progress = _progress(run, lines) if (run / RECIPE).is_file() else []
    return [f"state   {_state(run, jobs)}", *progress, *_starts(jobs), *_troubles(run, lines)]


def _progress(run: Path, lines: list[dict[str, Any]]) -> list[str]:
    steps, kept = _steps(run), published(run)
    last: dict[str, Any] = lines[-1] if lines else {"step": 0}
    shown = [f"step    {last['step']:,} of {steps:,}, newest checkpoint {read(kept[-1]).step if kept else 0:,}"]
    if lines:
        latest = {name: value for line in lines for name, value in line.items()}  # held-out figures are of few lines
        shown.append("losses  " + "  ".join(f"{name} {latest[name]:{SHOWN[name]}}" for name in SHOWN if name in latest))
    if speeds := [line["tokens_per_s"] for line in lines[-RECENT:] if "tokens_per_s" in line]:
        shown.append(f"speed   {statistics.median(speeds):,.0f} tokens/s")
    if len(kept) > 1 and last["step"] < steps:
        left = datetime.timedelta(seconds=round((steps - last["step"]) * _pace(*kept[-2:])))
        shown.append(f"to go   {left}, at the pace between the last two checkpoints")
    return shown


def _steps(run: Path) -> int:
    path = run / RECIPE
    try:
        return Recipe.from_dict(yaml.safe_load(path.read_text())).train.steps
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not the recipe of a run ({error}): the same command writes it again") from None


def _pace(before: Path, newest: Path) -> float:
    """Seconds of a step, by when two checkpoints were written; what a run waited between them counts as well."""
    written = [(folder / "checkpoint.json").stat().st_mtime for folder in (before, newest)]
    return (written[1] - written[0]) / (read(newest).step - read(before).step)


def _state(run: Path, jobs: list[Note]) -> str:
    if (run / "done.json").exists():
        return "done"
    signs = [path.stat().st_mtime for path in (run / LOCK, run / FILE) if path.exists()]
    since = f"; last sign {_ago(max(signs))}" if signs else ""
    if trains(run):
        return f"training{since}"
    if not jobs:
        return f"not training (stopped or dead){since}"
    job, ago = jobs[-1], _ago(jobs[-1].when.timestamp())
    if job.queued:
        return f"queued {ago}, job {job.job}{since}"
    if job.started:
        return f"not training (job {job.job} started {ago}: it is about to train, was stopped, or is dead){since}"
    return f"stopped: job {job.job} ended with exit code {job.code}, {ago}{since}"


def _ago(moment: float) -> str:
    """Of a time in seconds, which the clock of another node may have told."""
    return f"{datetime.timedelta(seconds=max(0, round(time.time() - moment)))} ago"


def _starts(jobs: list[Note]) -> list[str]:
    lines = [job.line for job in jobs if job.started]
    return [f"starts  {len(lines)}, the last {lines[-1]}"] if lines else []


def _troubles(run: Path, lines: list[dict[str, Any]]) -> list[str]:
    found = []
    if bad := sum(line.get(BAD, 0) for line in lines):
        found.append(f"errors  {bad} steps were not finite and changed nothing")
    if backs := [f"{back['first']}-{back['last']} with {back['reason']}" for back in rolled_back(run)]:
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
        print(f"status: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
