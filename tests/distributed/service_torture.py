"""Kills teachers and students of a service at random moments, starts them again, and proves that nothing shows.

python -m tests.distributed.service_torture [--kills 20] [--seed N] [--folder DIR]

Two teachers serve a student of two ranks, and record what they send. The run that is tormented must end with the ledger
of the undisturbed one byte for byte, and with its weights bit for bit; so must one that reads the recording.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.process
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import launcher.teach
import launcher.verify
from litebert.train.checkpoint import published, read, verify
from litebert.train.ledger import FILE
from tests.distributed.bench import REPOSITORY, Bench
from tests.distributed.forked import Job, forked, serving
from tests.distributed.test_distillation import STUDENT, TEACHER
from tests.distributed.torture import command

KINDS = ("teacher", "student", "teacher", "rank", "teachers")
STEPS_A_KILL = 8
STEPS_AFTER = 24  # after the last: a student whose teachers were killed runs on with what it has
ROUND_LIMIT = 120.0
RANKS = 2


class School:
    """Teachers, a student, and whoever kills them.

    Attributes:
        bench: where the runs are; its shards are of small blocks, six windows an epoch, so that teachers are asked all
            the time.
        kinds: kills by kind.
        stopped: steps at which students were killed.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.kinds: Counter[str] = Counter()
        self.stopped: list[int] = []
        self._chance = random.Random(seed)
        self._log = bench.folder / "school.log"
        self._fleet, self._record = bench.folder / "fleet", bench.folder / "record"
        self._codec = ("--codec.kind", "hidden")
        self._shards = bench.folder / "small_blocks"
        self._teachers: list[multiprocessing.process.BaseProcess] = []
        build = ["build", "--input", "corpus.jsonl", "--tokenizer", "tokenizer", "--output", self._shards.name]
        subprocess.run(
            [sys.executable, "-m", "data_tools", *build, "--shards.samples_per_block", "4"],
            cwd=bench.folder, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, check=True, capture_output=True,
        )  # fmt: skip
        job = {"arguments": bench.arguments("school_teacher", *TEACHER, "--train.steps", "30")}
        assert bench.group(1, [job])[0] == [0]

    def arguments(self, run: str, steps: int, *source: str) -> list[str]:
        """Of distill.py."""
        more = ("--objective.mlm", "2", "--distill.start", "random", "--distill.patience", "60")
        every = ("--train.steps", str(steps), "--train.checkpoint_every", "4")
        return [*self.bench.arguments(run, *STUDENT, *more, *every), "--data", str(self._shards), *source]

    @property
    def served(self) -> tuple[str, ...]:
        """Where a student finds its teachers."""
        return ("--fleet", str(self._fleet))

    @property
    def stored(self) -> tuple[str, ...]:
        """What the teachers recorded; they do first what nobody asked for."""
        given = ["--data", str(self._shards), *self._codec, *self.live, "--output", str(self._record)]
        assert launcher.teach.main(given) == 0
        return ("--soft", str(self._record))

    @property
    def live(self) -> tuple[str, ...]:
        """The teacher in the student's process."""
        return ("--teacher", str(self.bench.run("school_teacher")))

    @contextlib.contextmanager
    def open(self) -> Any:
        """Two teachers at work, for as long as this lasts."""
        self._staff(2)
        try:
            yield
        finally:
            for teacher in self._teachers:
                teacher.kill()
                teacher.join()

    def undisturbed(self, run: str, steps: int, source: tuple[str, ...]) -> None:
        """Runs a student to its end."""
        with forked(RANKS, self.arguments(run, steps, *source), self._log) as job:
            assert job.codes(ROUND_LIMIT * 3) == [0] * RANKS, self._log.read_text()[-3000:]

    def torment(self, run: str, kills: int, steps: int) -> None:
        """Kills that many times, at random moments, and lets it come to its end."""
        kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
        self._chance.shuffle(kinds)
        while kinds:
            with forked(RANKS, self.arguments(run, steps, *self.served), self._log) as job:
                ended = False
                while kinds and not ended:
                    self._moment(run, job, (kills - len(kinds)) * STEPS_A_KILL)
                    ended = self._kill(kinds[-1], job)
                    self.kinds[kinds.pop()] += 1
                    self._staff(2)
                if ended:
                    job.gone(ROUND_LIMIT)
                    self.stopped.append(self._step(run))
                else:
                    assert job.codes(ROUND_LIMIT) == [0] * RANKS
        if not (self.bench.run(run) / "done.json").exists():
            self.undisturbed(run, steps, self.served)
        for folder in published(self.bench.run(run)):
            verify(read(folder))

    def _staff(self, count: int) -> None:
        """As many teachers as that."""
        self._teachers = [each for each in self._teachers if each.is_alive()]
        serve = ["--serve", str(self._fleet), "--record", str(self._record)]
        given = ["--data", str(self._shards), *self._codec, *self.live, *serve]
        while len(self._teachers) < count:
            self._teachers.append(serving(given, self._log))

    def _moment(self, run: str, job: Job, first: int) -> None:
        """Waits for a random one: a step from the first on, or some time before it, as in a start."""
        until = first + self._chance.randrange(STEPS_A_KILL)
        limit = self._chance.uniform(0, 3.0) if self._chance.random() < 0.1 else ROUND_LIMIT
        deadline = time.monotonic() + limit
        while self._step(run) < until and time.monotonic() < deadline:
            assert len(job.alive()) == len(job.pids), self._log.read_text()[-3000:]
            time.sleep(0.002)
        time.sleep(self._chance.uniform(0, 0.2))

    def _kill(self, kind: str, job: Job) -> bool:
        """Returns whether the student must be started again."""
        if kind in ("teacher", "teachers"):
            killed = [self._chance.choice(self._teachers)] if kind == "teacher" else self._teachers
            for teacher in killed:
                teacher.kill()
            for teacher in killed:
                teacher.join()  # a busy machine takes its time, and who still dies would count as one at work
            time.sleep(self._chance.uniform(0, 1.0) if kind == "teachers" else 0.0)
        else:
            targets = [self._chance.choice(job.ranks)] if kind == "rank" else job.alive()
            for pid in targets:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return kind in ("student", "rank")

    def _step(self, run: str) -> int:
        path = self.bench.run(run) / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True)[-2:] if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        return int(json.loads(whole[-1])["step"]) if whole else 0


def torture(bench: Bench, kills: int, seed: int) -> dict[str, Any]:
    """Does what this file says. Raises AssertionError where anything shows; returns the figures."""
    begun, school, steps = time.monotonic(), School(bench, seed), kills * STEPS_A_KILL + STEPS_AFTER
    with school.open():
        school.undisturbed("calm_student", steps, school.served)
        school.torment("tormented", kills, steps)
    school.undisturbed("stored_student", steps, school.stored)
    school.undisturbed("live_student", steps, school.live)
    same, alike = ("calm_student", "tormented", "stored_student"), "live_student"
    runs = [bench.run(run) for run in (*same, alike)]
    for run in runs:
        lines, sound = launcher.verify.verify(run, [])
        assert sound, "\n".join(lines)
    ledgers = [(run / FILE).read_bytes() for run in runs]
    assert len(set(ledgers)) == 1, "the ledgers differ"
    for name in same[1:]:
        assert bench.hashes(name, steps) == bench.hashes(same[0], steps), f"{name}: the weights differ"
        assert bench.metrics(name) == bench.metrics(same[0]), f"{name}: the losses differ"
    apart = [abs(one - other) / other for one, other in zip(bench.losses(same[0]), bench.losses(alike), strict=True)]
    return {
        "kills": school.kinds.total(),
        "by_kind": dict(school.kinds),
        "steps": steps,
        "students_killed_at": school.stopped,
        "losses_from_live_by": {"first": apart[0], "most": max(apart)},
        "minutes": (time.monotonic() - begun) / 60,
        "seed": seed,
    }


if __name__ == "__main__":
    command(__doc__, torture, 20)
