"""What the job scripts do when Slurm, people or trainings do something; the training itself is made up (trainer.sh)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from litebert.cluster.notes import notes
from litebert.train.place import node_names
from tests.cluster.jobs import Job, starts_of, submit, wait_until
from tests.distributed.bench import REPOSITORY

TRAINER = Path(__file__).with_name("trainer.sh")


def started(slurm: dict[str, str], run: Path, *arguments: str, options: tuple[str, ...] = (), **changes: object) -> Job:
    """A training in a run folder."""
    log = run.with_name(f"{run.name}.log")
    given = ["--run", str(run), *arguments]
    return submit(slurm, log, "pretrain.sh", given, "--nodes=2", *options, PYTHON=TRAINER, **changes)


def both_learn(job: Job) -> bool:
    """Whether both ranks have done some steps."""
    text = job.log.read_text() if job.log.exists() else ""
    return all(f"step 5 of rank {rank}" in text for rank in (0, 1))


def test_a_second_job_for_a_run_is_refused_and_a_cancelled_one_does_not_come_back(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    job = started(slurm, tmp_path / "run", "--steps", "9999")
    wait_until(lambda: both_learn(job))
    second = submit(slurm, tmp_path / "second", "pretrain.sh", [f"--run={tmp_path / 'run'}"], PYTHON=TRAINER)
    assert second.codes == [2]
    assert f"run: job {job.number} is at work in it (RUNNING): let it end, or scancel" in second.log.read_text()
    assert job.states == ["RUNNING"]
    job.cancel()
    wait_until(lambda: not job.states)
    assert starts_of(tmp_path / "run") == [(2, 0)] and list((tmp_path / "run" / "checkpoints").iterdir())
    assert "exit code 85, and the job is ending by itself" in job.log.read_text()


def test_a_job_that_gets_no_further_ends(slurm: dict[str, str], tmp_path: Path) -> None:
    job = started(slurm, tmp_path / "run", "--dies", STUCK=2)
    assert job.codes == [1] and starts_of(tmp_path / "run") == [(2, 0)] * 2
    first, last = (line for line in job.log.read_text().splitlines() if "exit code 1" in line and "pretrain" in line)
    errors = (tmp_path / "run" / "errors" / "rank-1.log").read_text().splitlines()
    assert first.endswith(f"exit code 1: back into the queue; first of all, {errors[0]}")
    assert "exit code 1, and 2 starts in vain: this job ends" in last and last.endswith(f"first of all, {errors[2]}")
    assert errors[0].endswith("rank 1 on node2: is ill")


def test_a_node_that_cannot_start_python_is_no_wrong_recipe(slurm: dict[str, str], tmp_path: Path) -> None:
    """Either ends with 2; a recipe that still passes the check was not it."""
    job = started(slurm, tmp_path / "run", "--ends-with-2-once", "--steps", "5")
    assert job.codes == [0] and starts_of(tmp_path / "run") == [(2, 0)] * 2
    assert "exit code 2: back into the queue" in job.log.read_text()
    told = [(note.job, note.queued, note.started) for note in notes(tmp_path / "run")]
    assert told == [(job.number, False, True), (job.number, True, False), (job.number, False, True)]


def test_a_job_that_slurm_brings_back_in_vain_ends(tmp_path: Path) -> None:
    """As it does where the node of the job's script dies, again and again; nothing else of Slurm is asked."""
    line = "2026-11-23T15:00:00Z job=5 nodes=2 step=0\n"
    (tmp_path / ".starts").write_text(line * 3)
    script = f'source slurm/site.sh; source slurm/job.sh; set -eu; train pretrain --run "{tmp_path}"'
    given = {**os.environ, "REPOSITORY": str(REPOSITORY), "PYTHON": str(TRAINER), "SLURM_JOB_ID": "5"}
    done = subprocess.run(["bash", "-c", script], cwd=REPOSITORY, env=given, capture_output=True, text=True)
    assert done.returncode == 1 and "3 starts in vain: this job ends" in done.stderr
    assert [(note.job, note.code) for note in notes(tmp_path)][-1] == ("5", 1)


def test_options_are_read_as_programs_read_them() -> None:
    """The last counts, and one may have several values."""
    script = (
        'source slurm/site.sh; source slurm/job.sh; values_of --data "$@"; echo "${VALUES[*]}"; value_of --run "$@"'
    )
    given = {**os.environ, "REPOSITORY": str(REPOSITORY), "PYTHON": str(TRAINER)}
    words = ["--data", "A", "--run=1", "--data", "B", "C", "--run", "2"]
    done = subprocess.run(
        ["bash", "-c", script, "job", *words], cwd=REPOSITORY, env=given, capture_output=True, text=True
    )
    assert done.stdout.split() == ["B", "C", "2"], done.stderr


def test_a_run_is_queued_once(slurm: dict[str, str], tmp_path: Path) -> None:
    """By `bash slurm/pretrain.sh`, which submits what passes its check."""
    run = tmp_path / "run"
    command = ["bash", str(REPOSITORY / "slurm" / "pretrain.sh"), "--run", str(run), "--steps", "9999"]
    given = {**slurm, "PYTHON": str(TRAINER), "RESOURCES": f"--nodes=4 --exclusive --output={tmp_path}/log"}
    first = subprocess.run(command, cwd=REPOSITORY, env=given, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    number = first.stdout.split()[-1]
    assert first.stdout.endswith(f"Submitted batch job {number}\n")
    try:
        assert (run / ".starts").read_text().splitlines()[0].endswith(f"job={number} queued")
        second = subprocess.run(command, cwd=REPOSITORY, env=given, capture_output=True, text=True)
        assert second.returncode == 2 and f"{run}: job {number} is at work in it (" in second.stderr
    finally:
        Job(slurm, number, tmp_path / "log").cancel()


@pytest.mark.parametrize("by", ["signal", "limit"])
def test_a_training_that_is_stopped_comes_back(slurm: dict[str, str], tmp_path: Path, by: str) -> None:
    """Slurm looks at limits twice a minute: the signal of a minute's comes within its first forty seconds."""
    options = ("--time=1", "--signal=USR1@50") if by == "limit" else ()
    job = started(slurm, tmp_path / "run", "--endless-once", "--steps", "5", options=options)
    if by == "signal":
        wait_until(lambda: both_learn(job))
        job.cancel("--signal=USR1")
    assert job.codes == [0], job.log.read_text()
    starts, text = starts_of(tmp_path / "run"), job.log.read_text()
    steps = [step for _, step in starts]
    assert {nodes for nodes, _ in starts} == {2} and steps == sorted(set(steps)) and steps[0] == 0
    assert len(starts) == 2
    assert text.count("can begin") == 1 and text.count("exit code 85: back into the queue") == 1


def test_tasks_of_an_array_have_their_shares_and_come_back_by_themselves(slurm: dict[str, str], tmp_path: Path) -> None:
    """Numbered as one may, and only the one that died goes back."""
    job = submit(slurm, tmp_path / "%a", "teach.sh", ["--dies-once"], "--array=3-5:2", PYTHON=TRAINER)
    assert job.codes == [0, 0]
    for number, share in (("3", "0/2"), ("5", "1/2")):
        text = (tmp_path / number).read_text()
        assert text.count(f"--task {share} ") == 2
        assert text.count("exit code 137: back into the queue") == 1


def test_some_tasks_of_an_array_say_of_how_many(slurm: dict[str, str], tmp_path: Path) -> None:
    job = submit(slurm, tmp_path / "%a", "teach.sh", [], "--array=1,2,7", PYTHON=TRAINER)
    assert job.codes == [2, 2, 2] and "say of how many, SHARES=16 sbatch" in (tmp_path / "7").read_text()
    job = submit(slurm, tmp_path / "%a", "teach.sh", [], "--array=1,2,7", PYTHON=TRAINER, SHARES=8)
    assert job.codes == [0, 0, 0]
    assert [f"--task {each}/8" in (tmp_path / str(each)).read_text() for each in (1, 2, 7)] == [True] * 3


@pytest.mark.parametrize("kinds", [1, 2])
def test_teachers_and_students_have_nodes_of_their_own(slurm: dict[str, str], tmp_path: Path, kinds: int) -> None:
    """Of one kind, or of two, where Slurm wants the students' first; and so again when the job comes back."""
    given = ["--run", str(tmp_path / "run"), "--teacher", "M", "--data", "S", "--steps", "5", "--dies-once"]
    options = ["--nodes=2"] if kinds == 1 else ["--nodes=1", ":", "--nodes=1"]
    teachers = {"TEACHERS": 1} if kinds == 1 else {}
    job = submit(slurm, tmp_path / "log", "distill.sh", given, *options, PYTHON=TRAINER, **teachers)
    assert set(job.codes) == {0}, job.log.read_text()
    teaches, learns = ("node1", "node2") if kinds == 1 else ("node2", "node1")
    text, fleet = job.log.read_text(), tmp_path / "run" / ".fleet"
    served = f"--teacher M --data S --serve {fleet} --codec.kind"
    assert text.count(f"teach.py: rank 0 of 1 on {teaches}: ") == 2 and text.count(served) == 2
    assert text.count(f"distill.py: rank 0 of 1 on {learns}: ") == 2 and text.count(f"--fleet {fleet}\n") == 2
    assert text.count("exit code 137: back into the queue") == 1


def test_somebody_must_learn(slurm: dict[str, str], tmp_path: Path) -> None:
    given = ["--run", str(tmp_path / "run"), "--teacher", "M", "--data", "S", "--steps", "5"]
    few = submit(slurm, tmp_path / "few", "distill.sh", given, "--nodes=2", PYTHON=TRAINER, TEACHERS=2)
    assert few.codes == [2] and "TEACHERS=2 nodes of 2 leave none to students" in few.log.read_text()
    words = submit(slurm, tmp_path / "words", "distill.sh", given, "--nodes=2", PYTHON=TRAINER, TEACHERS="one")
    assert words.codes == [2] and "TEACHERS=one is no number of nodes" in words.log.read_text()


def test_names_of_nodes_are_those_that_slurm_tells(slurm: dict[str, str]) -> None:
    text = "rack[1-2]n[08-10],login,x[003,07,9-11]"
    command = ["scontrol", "show", "hostnames", text]
    told = subprocess.run(command, env=slurm, capture_output=True, text=True, check=True)
    assert node_names(text) == told.stdout.split()
