"""Kills training at random moments, resumes it on other ranks and stages, and proves that nothing shows.

python -m tests.distributed.torture [--kills 125] [--seed N] [--folder DIR]

Four fifths of the kills fall on one run that is resumed each time with a random number of ranks (1 to 4) and a random
ZeRO stage. It must end with a ledger that launcher/verify.py finds
as planned, equal to the undisturbed run's byte for byte, and with weights that differ from its by
at most TOLERANCE of the way that training has moved them (sums in another order differ by rounding). The rest fall on
runs, one a stage, that keep two ranks and their stage: their last checkpoints must equal the undisturbed ones bit for
bit. After every kill all processes must be gone within GONE_WITHIN seconds, every checkpoint be sound, and neither
temporary files nor named shared memory be left.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launcher.verify
from litebert.data.split import Split
from litebert.recipe import parse_command
from litebert.train.checkpoint import latest, published, read, read_weights, verify
from litebert.train.initial import initial_model
from litebert.train.ledger import FILE
from tests.distributed.bench import Bench
from tests.distributed.forked import Job, forked

TOLERANCE = 1e-4
GONE_WITHIN = 10.0
ROUND_LIMIT = 120.0
STEPS_A_KILL = 3  # more than most rounds get done, so that few runs end before their kills
NO_DROPOUT = ("--model.dropout", "0")  # which is drawn by rank
KINDS = ("training", "saving", "rank", "launcher", "training", "saving", "rank", "start")


@dataclasses.dataclass(frozen=True)
class Round:
    """One start of a run, and how it is to end.

    Attributes:
        ranks, stage: what it runs on.
        kind: when, and what, is killed: all at the start, in training or in saving, or a rank or the launcher alone;
            "" for nothing.
        after: steps that it may do before.
        delay: seconds from the moment to the kill.
    """

    ranks: int
    stage: int
    kind: str = ""
    after: int = 0
    delay: float = 0.0


class Driver:
    """Starts, kills and checks.

    Attributes:
        bench: where the runs are.
        gone: seconds in which each killed round was gone.
        kinds: kills by kind.
        checked: how often a checkpoint was read after a round.
        unusable: what was wrong with those that were not sound.
        left: files that processes left behind them.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.gone: list[float] = []
        self.kinds: Counter[str] = Counter()
        self.checked = 0
        self.unusable: list[str] = []
        self.left: list[Path] = []
        self._shared: set[Path] = set()
        self._chance = random.Random(seed)
        self._log = bench.folder / "ranks.log"

    def torment(
        self, run: str, kills: int, steps: int, ranks: list[int], stages: list[int], *overrides: str
    ) -> Iterator[None]:
        """Kills a run as often as that, then lets it come to its end.

        Yields at the end, for whoever looks at the run. One that came there before all moments had come is looked at
        too, and another goes on in its place.
        """
        chance = self._chance
        kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
        chance.shuffle(kinds)
        while kinds:
            planned = Round(
                ranks=chance.choice(ranks),
                stage=chance.choice(stages),
                kind=kinds[-1],
                after=chance.randint(1, STEPS_A_KILL + 1),
                delay=chance.uniform(0, 0.03),
            )
            if self.round(run, planned, steps, *overrides):
                kinds.pop()
            elif (self.bench.run(run) / "done.json").exists():
                yield
                shutil.rmtree(self.bench.run(run))
        self.finish(run, ranks[-1], stages[-1], steps, *overrides)
        yield

    def finish(self, run: str, ranks: int, stage: int, steps: int, *overrides: str) -> None:
        """Runs a run to its end."""
        assert not self.round(run, Round(ranks, stage), steps, *overrides)
        assert (self.bench.run(run) / "done.json").exists()

    def round(self, run: str, planned: Round, steps: int, *overrides: str) -> bool:
        """One start; returns whether it was ended by a kill."""
        begun, before = self._checkpoint(run), self._traces(run)
        settings = ("--train.steps", str(steps), "--train.checkpoint_every", "2", *overrides)
        arguments = self.bench.arguments(run, *settings, stage=planned.stage)
        with forked(planned.ranks, arguments, self._log) as job:
            killed = bool(planned.kind) and self._kill(run, planned, begun, before, job)
            gone = job.gone(GONE_WITHIN if killed else ROUND_LIMIT)
        temporary = self._log.with_name("tmp").rglob("*")
        self.left += [path for path in [*self._shared, *temporary] if path.exists()]
        for folder in published(self.bench.run(run)):
            self.checked += 1
            try:
                verify(read(folder))
            except ValueError as error:
                self.unusable.append(str(error))
        if killed:
            self.kinds[planned.kind] += 1
            self.gone.append(gone)
        what = f"{planned.ranks} ranks, ZeRO {planned.stage}, {planned.kind or 'to the end'}"
        print(f"{run}: {what}: from {begun} to {self._step(run)}, saved {self._checkpoint(run)}", flush=True)
        return killed

    def _kill(self, run: str, planned: Round, begun: int, before: set[tuple[str, int]], job: Job) -> bool:
        """Waits for the moment, and kills. Returns False where the round ended before."""
        deadline = time.monotonic() + ROUND_LIMIT
        while not self._due(run, planned, begun, before):
            assert time.monotonic() < deadline, f"{planned}: the moment does not come; see {self._log}"
            if len(job.alive()) < len(job.pids):
                return False
            time.sleep(0.001)
        delayed = time.monotonic() + planned.delay * (60 if planned.kind == "start" else 1)
        while time.monotonic() < delayed and not self._shown(run, begun + STEPS_A_KILL, before):
            time.sleep(0.001)
        self._shared |= job.shared()
        alone = {"rank": self._chance.choice(job.ranks), "launcher": job.launcher}.get(planned.kind)
        targets = [pid for pid in job.alive() if alone in (None, pid)]
        for pid in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(targets)

    def _due(self, run: str, planned: Round, begun: int, before: set[tuple[str, int]]) -> bool:
        if planned.kind == "start":
            return True
        if planned.kind == "saving":
            return any(name.endswith(".tmp") for name, _ in self._traces(run) - before)
        return self._shown(run, begun + planned.after, before)

    def _shown(self, run: str, step: int, before: set[tuple[str, int]]) -> bool:
        """Whether a round has come to a step. A resume replaces the file of metrics, cut back to its checkpoint."""
        fresh = {name for name, _ in self._traces(run) - before}
        return "metrics.jsonl" in fresh and self._step(run) >= step

    def _traces(self, run: str) -> set[tuple[str, int]]:
        """Files and folders, by name and inode, that show what a round has come to."""
        folder = self.bench.run(run)
        found = set()
        for path in [folder / "metrics.jsonl", *(folder / "checkpoints").glob("*.tmp")]:
            with contextlib.suppress(FileNotFoundError):
                found.add((path.name, path.stat().st_ino))
        return found

    def _checkpoint(self, run: str) -> int:
        found = latest(self.bench.run(run))
        return found.step if found else 0

    def _step(self, run: str) -> int:
        """The newest step that a run has shown."""
        path = self.bench.run(run) / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        whole = [line for line in text.splitlines(keepends=True)[-2:] if line.endswith("\n")]
        return int(json.loads(whole[-1])["step"]) if whole else 0


def torture(bench: Bench, kills: int, seed: int) -> dict[str, Any]:
    """Does what this file says. Raises AssertionError where anything shows; returns the figures."""
    begun = time.monotonic()
    driver = Driver(bench, seed)
    same = kills // 5
    stages = [stage for stage in range(4) if same // 4 or stage == seed % 4]
    wandering = kills - same
    steps = wandering * STEPS_A_KILL
    driver.finish("calm", 1, 0, steps, *NO_DROPOUT)
    for _ in driver.torment("wandering", wandering, steps, [1, 2, 3, 4], [0, 1, 2, 3], *NO_DROPOUT):
        assert _ledger(bench, "wandering") == _ledger(bench, "calm"), "the ledgers differ"
        difference = _difference(bench, steps)
        assert difference <= TOLERANCE, f"weights differ by {difference:.2%} of the way they moved"
    for number, stage in enumerate(stages):
        share = same // len(stages) + (number < same % len(stages))
        last, calm, same_as = share * STEPS_A_KILL, f"calm{stage}", f"same{stage}"
        driver.finish(calm, 2, stage, last)
        for _ in driver.torment(same_as, share, last, [2], [stage]):
            assert _ledger(bench, same_as) == _ledger(bench, calm), f"the ledgers at ZeRO {stage} differ"
            assert bench.hashes(same_as, last) == bench.hashes(calm, last), f"ZeRO {stage}: weights differ"
    assert not driver.unusable, "; ".join(driver.unusable)
    assert not driver.left, f"left behind: {', '.join(map(str, driver.left))}"
    return {
        "kills": driver.kinds.total(),
        "by_kind": dict(driver.kinds),
        "checkpoints_checked": driver.checked,
        "unusable_checkpoints": len(driver.unusable),
        "files_left_behind": len(driver.left),
        "steps": steps,
        "bit_equal_at_stages": stages,
        "weights_differ_by": difference,
        "tolerance": TOLERANCE,
        "seconds_until_gone": {"median": statistics.median(driver.gone), "most": max(driver.gone)},
        "minutes": (time.monotonic() - begun) / 60,
        "seed": seed,
    }


def _ledger(bench: Bench, run: str) -> bytes:
    """A run's ledger, which the plan of its data bears out."""
    lines, sound = launcher.verify.verify(bench.run(run), [])
    assert sound, "\n".join(lines)
    return (bench.run(run) / FILE).read_bytes()


def _difference(bench: Bench, steps: int) -> float:
    """Between the wandering run's last weights and the undisturbed one's, as a share of how far these have moved."""
    recipe = parse_command(bench.arguments("calm", *NO_DROPOUT), "").recipe
    initial = dict(initial_model(recipe, Split(str(bench.shards), "train")).named_parameters())
    runs = (bench.run(run) / "checkpoints" / f"step-{steps:08d}" for run in ("wandering", "calm"))
    wandering, undisturbed = map(read_weights, runs)
    apart = sum(float((wandering[name] - weight).square().sum()) for name, weight in undisturbed.items())
    moved = sum(float((weight - initial[name].detach()).square().sum()) for name, weight in undisturbed.items())
    return (apart / moved) ** 0.5


def command(description: str | None, torture: Callable[[Bench, int, int], dict[str, Any]], kills: int) -> None:
    """Parses a command line, tortures, prints the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of what is random")
    parser.add_argument("--folder", type=Path, help="where to leave the runs; by default they are removed")
    options = parser.parse_args()
    if options.kills < 5:
        parser.error(f"--kills {options.kills}: 5 or more, a fifth of them on runs that keep their ranks")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(torture(Bench(folder), options.kills, options.seed)))


if __name__ == "__main__":
    command(__doc__, torture, 125)
