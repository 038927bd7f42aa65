"""Runs that Slurm starts, stops, preempts and starts again, against the same runs without Slurm."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher.verify import verify
from litebert.train.checkpoint import latest
from tests.cluster.conftest import Cluster
from tests.cluster.jobs import Job, starts_of, submit, wait_until
from tests.distributed.bench import REPOSITORY, Bench, environment

pytestmark = pytest.mark.distributed

STEPS = 60
LONG = ("--train.steps", str(STEPS))


def steps_of(bench: Bench, run: str) -> int:
    """Steps whose lines were written so far."""
    path = bench.run(run) / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def ranks_of(run: Path) -> list[int]:
    """Process ids of those who train in a folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        command = process.info["cmdline"] or []
        if str(run) in command and "SLURM_STEP_NODELIST" in (process.info["environ"] or {}) and "srun" not in command:
            found.append(process.info["pid"])
    return found


@pytest.fixture(scope="module")
def trained(slurm: dict[str, str], bench: Bench) -> Path:
    """A run of two nodes."""
    job = submit(slurm, bench.folder / "trained.log", "pretrain.sh", bench.arguments("trained"), "--nodes=2")
    assert job.codes == [0], job.log.read_text()
    return bench.run("trained")


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> str:
    """A run of two ranks, without Slurm."""
    (outcome,), log = bench.group(2, [{"arguments": bench.arguments("undisturbed", *LONG)}])
    assert outcome == 0, log
    return "undisturbed"


def test_two_nodes_compute_what_two_ranks_without_slurm_do(trained: Path, bench: Bench) -> None:
    (outcome,), log = bench.group(2, [{"arguments": bench.arguments("alone")}])
    assert outcome == 0, log
    assert bench.hashes("trained") == bench.hashes("alone") and bench.metrics("trained") == bench.metrics("alone")
    text = (bench.folder / "trained.log").read_text()
    assert "can begin: " in text and "ranks  2 on 2 nodes: node1, node2; rank 0 at " in text


def started(slurm: dict[str, str], bench: Bench, run: str, *settings: str, nodes: str = "2") -> Job:
    """A run of STEPS steps with a checkpoint each seventh, when some steps are done."""
    arguments = bench.arguments(run, *LONG, "--train.checkpoint_every", "7", *settings)
    done = steps_of(bench, run)
    job = submit(slurm, bench.folder / f"{run}-{done}.log", "pretrain.sh", arguments, f"--nodes={nodes}")
    wait_until(lambda: steps_of(bench, run) > done + 4)
    return job


def ends_as(run: str, undisturbed: str, bench: Bench) -> None:
    """Bit for bit, with every sample fed once."""
    assert bench.hashes(run, STEPS) == bench.hashes(undisturbed, STEPS)
    assert bench.losses(run) == bench.losses(undisturbed)
    lines, sound = verify(bench.run(run), [])
    assert sound and f"{STEPS} steps" in lines[-1]


def nodes_of(job: Job) -> list[list[str]]:
    """Of each start whose ranks have met, the first rank's node first."""
    told = re.findall(r"^ranks  \d+ on \d+ nodes?: ([^;]*);", job.log.read_text(), re.MULTILINE)
    return [names.split(", ") for names in told]


@contextlib.contextmanager
def rival(slurm: dict[str, str], nodes: int) -> Iterator[Job]:
    """A job of the partition that goes first, on nodes that it wants to itself."""
    command = ["sbatch", "--parsable", "--partition=hi", f"--nodes={nodes}", "--exclusive", "--output=/dev/null"]
    done = subprocess.run([*command, "--wrap=sleep 600"], env=slurm, capture_output=True, text=True, check=True)
    job = Job(slurm, done.stdout.strip(), Path(os.devnull))
    try:
        yield job
    finally:
        job.cancel()


def test_a_run_that_is_signalled_ends_as_if_undisturbed(slurm: dict[str, str], bench: Bench, undisturbed: str) -> None:
    """The signal is what Slurm sends near the time limit."""
    job = started(slurm, bench, "signalled")
    job.cancel("--signal=USR1")
    assert job.codes == [0], job.log.read_text()
    (first, second), text = starts_of(bench.run("signalled")), job.log.read_text()
    assert first == (2, 0) and second[0] == 2 and 0 < second[1] < STEPS
    assert f"stopped after step {second[1]} (SIGUSR1)" in text and "exit code 85: back into the queue" in text
    ends_as("signalled", undisturbed, bench)


def test_a_run_that_loses_a_rank_ends_as_if_undisturbed(slurm: dict[str, str], bench: Bench, undisturbed: str) -> None:
    job = started(slurm, bench, "bereaved")
    wait_until(lambda: latest(bench.run("bereaved")))
    os.kill(ranks_of(bench.run("bereaved"))[1], signal.SIGKILL)
    assert job.codes == [0], job.log.read_text()
    (first, second), text = starts_of(bench.run("bereaved")), job.log.read_text()
    assert first == (2, 0) and second[0] == 2 and second[1] >= 7
    (told,) = (line for line in text.splitlines() if "back into the queue" in line)
    assert "first of all, " in told and told.endswith("is gone, so this run ends")
    ends_as("bereaved", undisturbed, bench)


def test_a_run_that_is_cancelled_goes_on_when_it_is_submitted_again(
    slurm: dict[str, str], bench: Bench, undisturbed: str
) -> None:
    """At once: the second waits until the first is gone, which saves what it has."""
    job = started(slurm, bench, "cancelled")
    job.cancel()
    again = started(slurm, bench, "cancelled")
    assert again.codes == [0], again.log.read_text()
    assert "and the job is ending by itself" in job.log.read_text()
    first, second = starts_of(bench.run("cancelled"))
    assert first == (2, 0) and second[0] == 2 and 0 < second[1] < STEPS
    ends_as("cancelled", undisturbed, bench)


def test_a_run_that_is_preempted_ends_as_if_undisturbed(slurm: dict[str, str], bench: Bench, undisturbed: str) -> None:
    job = started(slurm, bench, "preempted")
    with rival(slurm, 3):
        wait_until(lambda: job.states == ["PENDING"])
    assert job.codes == [0], job.log.read_text()
    first, second = starts_of(bench.run("preempted"))
    assert first == (2, 0) and second[0] == 2 and 0 < second[1] < STEPS
    assert f"stopped after step {second[1]} (SIGTERM)" in job.log.read_text()
    ends_as("preempted", undisturbed, bench)


def test_a_run_goes_on_with_the_nodes_that_are_left(slurm: dict[str, str], bench: Bench) -> None:
    """Preempted from two to one. Without dropout, which is drawn by rank, its losses are those of two ranks."""
    still = ("--model.dropout", "0")
    (outcome,), log = bench.group(2, [{"arguments": bench.arguments("still", *LONG, *still)}])
    assert outcome == 0, log
    job = started(slurm, bench, "moved", *still, nodes="1-2")
    with rival(slurm, 3):
        assert job.codes == [0], job.log.read_text()
    first, second = starts_of(bench.run("moved"))
    assert first == (2, 0) and second[0] == 1 and 0 < second[1] < STEPS
    assert bench.losses("moved") == pytest.approx(bench.losses("still"), rel=1e-5)
    assert verify(bench.run("moved"), [])[1]


def test_a_run_whose_nodes_die_goes_on_with_others(
    cluster: Cluster, slurm: dict[str, str], bench: Bench, undisturbed: str
) -> None:
    """Their daemons and all their processes at once: a node of ranks alone, then the one with the job's script, the
    first rank and the lock of the run. Nobody tells Slurm, which misses a node after SlurmdTimeout."""
    job = started(slurm, bench, "bereft")
    wait_until(lambda: latest(bench.run("bereft")))
    dead = [nodes_of(job)[0][1]]
    cluster.kill(dead[0])
    try:
        wait_until(lambda: len(nodes_of(job)) == 2)
        done = steps_of(bench, "bereft")
        wait_until(lambda: steps_of(bench, "bereft") > done + 2)
        dead.append(nodes_of(job)[1][0])
        cluster.kill(dead[1])
        assert job.codes == [0], job.log.read_text()
        starts, nodes = starts_of(bench.run("bereft")), nodes_of(job)
        assert {count for count, _ in starts} == {2} and starts[0][1] == 0 and starts[1][1] >= 7
        assert dead[0] not in nodes[1] and not set(dead) & set(nodes[-1])
        ends_as("bereft", undisturbed, bench)
    finally:
        for name in dead:
            cluster.revive(name)
        cluster.wait_for_nodes()


def test_what_is_wrong_is_said_before_anything_is_started(slurm: dict[str, str], bench: Bench, tmp_path: Path) -> None:
    """By the job, or at once where the script runs outside of one."""
    job = submit(slurm, tmp_path / "log", "pretrain.sh", bench.arguments("wrong", "--optimizer.rl", "1"), "--nodes=2")
    assert job.codes == [2] and "unknown key optimizer.rl (did you mean optimizer.lr?)" in job.log.read_text()
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in bench.shards.rglob("*"):
        if path.is_file():
            (shards / path.relative_to(bench.shards)).parent.mkdir(exist_ok=True)
            (shards / path.relative_to(bench.shards)).write_bytes(path.read_bytes())
    with (shards / "train-00000.tar").open("ab") as file:
        file.truncate(1000)
    script = [str(REPOSITORY / "slurm" / "pretrain.sh"), *bench.arguments("wrong", "--data", str(shards))]
    done = subprocess.run(
        ["bash", *script], env={**environment(PYTHON=sys.executable), **slurm}, capture_output=True, text=True
    )
    assert done.returncode == 2 and "train-00000.tar has 1,000 bytes instead of " in done.stderr
    assert "Submitted" not in done.stdout and not bench.run("wrong").exists()


def test_a_student_learns_the_same_from_answers_of_an_array_and_of_a_fleet(
    slurm: dict[str, str], bench: Bench, trained: Path
) -> None:
    """And as without Slurm, from the same answers."""
    soft, codec = str(bench.run("soft")), ["--codec.kind", "head"]
    given = ["--teacher", str(trained), "--data", str(bench.shards)]
    teach = submit(slurm, bench.folder / "teach.log", "teach.sh", [*given, "--output", soft, *codec], "--array=0-1")
    assert teach.codes == [0, 0] and (Path(soft) / "manifest.json").exists(), teach.log.read_text()
    own = ("--distill.start", "random", "--distill.cos", "0", "--distill.sop", "0")
    stored = [*bench.arguments("stored", *own), "--soft", soft]
    job = submit(slurm, bench.folder / "stored.log", "distill.sh", stored, "--nodes=1")
    assert job.codes == [0], job.log.read_text()
    sent = [*bench.arguments("sent", *own), "--teacher", str(trained)]
    job = submit(slurm, bench.folder / "sent.log", "distill.sh", sent, "--nodes=2", TEACHERS=1, TEACH=" ".join(codec))
    assert job.codes == [0], job.log.read_text()
    assert "serves head" in job.log.read_text()
    (outcome,), log = bench.group(1, [{"arguments": [*bench.arguments("unslurmed", *own), "--soft", soft]}])
    assert outcome == 0, log
    assert bench.hashes("stored") == bench.hashes("unslurmed") == bench.hashes("sent")
