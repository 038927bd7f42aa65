"""Tasks of a Slurm cluster: each stage is a job array, submitted by datatrove once the stage before it is done.

The process that builds hashes the input, waits for each array, as only then the items of the next stage are known, and
writes the rejects and publishes at the end. It may be a job itself (``slurm/prepare.sh``). All nodes must see
the input and the output under the same paths.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from data_tools.executors.interface import Steps
from data_tools.progress import Progress
from data_tools.work import Stage, Work

_POLL_SECONDS = 2.0
_FOLDER = "slurm"
_JOB, _ERROR = "job", "error"
_MAX_TASKS = 1000  # of an array: Slurm's own default is 1001


@dataclasses.dataclass(frozen=True)
class SlurmConfig:
    """What is asked of Slurm for each task.

    Attributes:
        partition: to run in.
        time: a task may take at most, as hours:minutes:seconds.
        memory_gb: of a task, which has one core.
        qos: quality of service; empty for the cluster's default.
        account: to charge; empty for the user's default.
    """

    partition: str = "main"
    time: str = "24:00:00"
    memory_gb: int = 2
    qos: str = ""
    account: str = ""


@dataclasses.dataclass(frozen=True)
class SlurmExecutor:
    """Does the work in job arrays.

    Attributes:
        tasks: of an array at most; task r of n does every n-th item from the r-th.
        config: what each is given.
    """

    tasks: int
    config: SlurmConfig = dataclasses.field(default_factory=SlurmConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.tasks <= _MAX_TASKS:
            raise ValueError(f"tasks {self.tasks} is not between 1 and {_MAX_TASKS}")
        if shutil.which("sbatch") is None:
            raise ValueError("no Slurm here: sbatch is not on the PATH; --executor local works on this machine")

    def run(self, work: Work, steps: Steps) -> None:
        """See ``Executor``."""
        folder = work.folder.resolve() / _FOLDER
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # of a build that was killed: nobody waits for it any more
            _cancel((folder / _JOB).read_text())
        work.clear_unfinished()
        for stage in (stage for step in steps for stage in step):
            items = stage.items()
            unfinished = [item for item in items if not work.is_finished(stage.name, item)]
            with Progress(stage.name, "items", len(unfinished)) as progress:
                if unfinished:
                    self._run_stage(Work(work.folder.resolve()), stage, unfinished, folder / stage.name, progress)

    def _run_stage(self, work: Work, stage: Stage, items: list[str], folder: Path, progress: Progress) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        job = self._submit(Share(work, stage, items, folder / _ERROR), min(self.tasks, len(items)), folder)
        record = folder.parent / _JOB
        record.write_text(job)
        try:
            done = 0
            while _is_alive(job):
                time.sleep(_POLL_SECONDS)
                now = sum(work.is_finished(stage.name, item) for item in items)
                progress.advance(now - done)
                done = now
        except BaseException:
            _cancel(job)
            raise
        record.unlink()
        if missing := [item for item in items if not work.is_finished(stage.name, item)]:
            said = (folder / _ERROR).read_text(encoding="utf-8") if (folder / _ERROR).exists() else "no task said why"
            raise ValueError(f"{said} ({len(missing)} of {len(items)} items of {stage.name}; logs in {folder})")

    def _submit(self, share: Share, tasks: int, folder: Path) -> str:
        """Submit an array; the job's id."""
        try:
            from datatrove.executor.slurm import SlurmPipelineExecutor
        except ImportError as error:
            raise ValueError(f"--executor slurm needs datatrove ({error}): pip install 'litebert[data]'") from error

        executor = SlurmPipelineExecutor(
            pipeline=[share],
            tasks=tasks,
            time=self.config.time,
            partition=self.config.partition,
            mem_per_cpu_gb=self.config.memory_gb,
            job_name=f"litebert-{share.stage.name}",
            qos=self.config.qos or None,
            sbatch_args={"account": self.config.account} if self.config.account else {},
            logging_dir=str(folder),
            skip_completed=False,
            env_command=_environment(),
        )
        executor.launch_merge_stats = _nothing  # a job more, for figures that nobody reads
        with _no_surrounding_job(), open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
            try:
                executor.run()
            except subprocess.CalledProcessError as error:
                raise ValueError(f"sbatch refused the job ({error}); see --slurm.partition and its like") from error
        return str(executor.job_id)


@dataclasses.dataclass(frozen=True)
class Share:
    """A step of datatrove's: what each task of an array does.

    Attributes:
        work: the work folder.
        stage: whose items it does.
        items: of all tasks.
        error: file for what is wrong with the data, if something is.
    """

    work: Work
    stage: Stage
    items: list[str]
    error: Path

    def __call__(self, data: object, rank: int, world_size: int) -> Iterator[object]:
        """Do every ``world_size``-th item."""
        try:
            for item in self.items[rank::world_size]:
                self.work.finish(self.stage, item)
        except (ValueError, OSError) as error:
            self.error.write_text(str(error), encoding="utf-8")
            raise
        return iter(())


def _nothing() -> None:
    pass


def _environment() -> str:
    """Shell that gives a task the Python and the code of this process."""
    code = Path(__file__).parents[2]
    paths = {"PATH": Path(sys.executable).parent, "PYTHONPATH": code}
    return "\n".join(f"export {name}={shlex.quote(str(path))}:${name}" for name, path in paths.items())


@contextlib.contextmanager
def _no_surrounding_job() -> Iterator[None]:
    """Without the variables of the job that this process may itself be: they would contradict the new one's."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF":
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _is_alive(job: str) -> bool:
    listed = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
    if listed.returncode and "Invalid job id" not in listed.stderr:
        return True  # the controller is busy, or away for a moment: ask again
    return bool(listed.stdout.strip())


def _cancel(job: str) -> None:
    """End a job, and wait until its tasks are gone."""
    subprocess.run(["scancel", job], capture_output=True)
    while _is_alive(job):
        time.sleep(_POLL_SECONDS)
