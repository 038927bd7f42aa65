"""Jobs of a Slurm cluster, as their tests see them."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.distributed.bench import REPOSITORY, environment

PATIENCE = 300.0


@dataclasses.dataclass
class Job:
    """One of Slurm's.

    Attributes:
        cluster: the environment that finds it.
        number: by which Slurm knows it.
        log: of its script and its ranks.
    """

    cluster: dict[str, str]
    number: str
    log: Path

    @property
    def states(self) -> list[str]:
        """Of it, or of the tasks of an array, as long as it is in the queue."""
        command = ["squeue", "--noheader", "--jobs", self.number, "--format=%T"]
        return subprocess.run(command, env=self.cluster, capture_output=True, text=True).stdout.split()

    @property
    def codes(self) -> list[int]:
        """Its exit code, when it is over; of an array, those of its tasks."""
        wait_until(lambda: not self.states)
        shown = self._slurm("scontrol", "show", "job", self.number)
        return [int(part.partition(":")[0]) for part in shown.split("ExitCode=")[1:]]

    def cancel(self, *options: str) -> None:
        """scancel."""
        self._slurm("scancel", *options, self.number)

    def _slurm(self, *command: str) -> str:
        return subprocess.run(command, env=self.cluster, capture_output=True, text=True, check=True).stdout


def submit(
    cluster: dict[str, str], log: Path, script: str, arguments: list[str], *options: str, **changes: object
) -> Job:
    """sbatch of a script of slurm/, with options of its own, and changes of the environment."""
    command = ["sbatch", "--parsable", f"--output={log}", *options, str(REPOSITORY / "slurm" / script), *arguments]
    given = cluster | environment(PATH=cluster["PATH"], **{"PYTHON": sys.executable, **changes})
    given["SLURM_CONF"] = cluster["SLURM_CONF"]
    done = subprocess.run(command, env=given, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Job(cluster, done.stdout.strip(), log)


def starts_of(run: Path) -> list[tuple[int, int]]:
    """Nodes, and the step that was gone on from, of each start of a run."""
    if not (run / ".starts").exists():
        return []
    found = re.findall(r" nodes=(\d+) step=(\d+)$", (run / ".starts").read_text(), re.MULTILINE)
    return [(int(nodes), int(step)) for nodes, step in found]


def wait_until(condition: Callable[[], object]) -> None:
    """As long as it takes on a busy machine."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
