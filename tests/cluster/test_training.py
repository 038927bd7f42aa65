"""Runs that Slurm starts, stops, preempts and starts again, against the same runs without Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


def test_a_run_that_is_signalled_and_loses_a_rank_ends_as_if_undisturbed(
    slurm: dict[str, str], bench: Bench, undisturbed: str
) -> None:
    """The signal is what Slurm sends near the time limit; the rank is killed when the job came back."""
    arguments = bench.arguments("disturbed", *LONG, "--train.checkpoint_every", "7")
    job = submit(slurm, bench.folder / "disturbed.log", "pretrain.sh", arguments, "--nodes=2")
    wait_until(lambda: steps_of(bench, "disturbed") > 4)
    job.cancel("--signal=USR1")
    wait_until(lambda: len(starts_of(bench.run("disturbed"))) == 2)
    found = latest(bench.run("disturbed"))
    assert found is not None
    wait_until(lambda: steps_of(bench, "disturbed") > found.step + 3)
    os.kill(ranks_of(bench.run("disturbed"))[1], signal.SIGKILL)
    assert job.codes == [0], job.log.read_text()
    begun = starts_of(bench.run("disturbed"))
    assert len(begun) == 3 and begun[0] == (2, 0) and begun[1] == (2, found.step) and begun[2][1] >= found.step
    text = job.log.read_text()
    assert f"stopped after step {found.step} (SIGUSR1)" in text and "exit code 85: back into the queue" in text
    assert bench.hashes("disturbed", STEPS) == bench.hashes(undisturbed, STEPS)
    assert bench.losses("disturbed") == bench.losses(undisturbed)
    lines, sound = verify(bench.run("disturbed"), [])
    assert sound and f"{STEPS} steps" in lines[-1]


def test_a_run_that_is_preempted_goes_on_with_the_nodes_that_are_left(slurm: dict[str, str], bench: Bench) -> None:
    """Without dropout, which is drawn by rank, its losses are those of two ranks throughout."""
    still = (*LONG, "--model.dropout", "0")
    (outcome,), log = bench.group(2, [{"arguments": bench.arguments("still", *still)}])
    assert outcome == 0, log
    arguments = bench.arguments("preempted", *still)
    job = submit(slurm, bench.folder / "preempted.log", "pretrain.sh", arguments, "--nodes=1-2")
    wait_until(lambda: steps_of(bench, "preempted") > 4)
    command = ["sbatch", "--parsable", "--partition=hi", "--nodes=3", "--exclusive", "--output=/dev/null"]
    done = subprocess.run([*command, "--wrap=sleep 600"], env=slurm, capture_output=True, text=True, check=True)
    assert job.codes == [0], job.log.read_text()
    Job(slurm, done.stdout.strip(), job.log).cancel()
    (first, second), text = starts_of(bench.run("preempted")), job.log.read_text()
    assert first == (2, 0) and second[0] == 1 and 0 < second[1] < STEPS
    assert f"stopped after step {second[1]} (SIGTERM)" in text
    assert bench.losses("preempted") == pytest.approx(bench.losses("still"), rel=1e-5)
    assert verify(bench.run("preempted"), [])[1]


def test_a_run_whose_node_dies_goes_on_with_another(
    cluster: Cluster, slurm: dict[str, str], bench: Bench, undisturbed: str
) -> None:
    """Its daemon and all its processes at once. Nobody tells Slurm, which misses the node after SlurmdTimeout."""
    arguments = bench.arguments("bereft", *LONG, "--train.checkpoint_every", "7")
    job = submit(slurm, bench.folder / "bereft.log", "pretrain.sh", arguments, "--nodes=2")
    wait_until(lambda: steps_of(bench, "bereft") > 10)
    cluster.kill("node2")
    try:
        assert job.codes == [0], job.log.read_text()
        (first, *_, last), text = starts_of(bench.run("bereft")), job.log.read_text()
        assert first == (2, 0) and last[0] == 2 and last[1] >= 7 and "node1, node2;" in text
        assert "node2" not in text[text.rindex("ranks  2 on 2 nodes") :]
        assert bench.hashes("bereft", STEPS) == bench.hashes(undisturbed, STEPS)
        assert bench.losses("bereft") == bench.losses(undisturbed)
        lines, sound = verify(bench.run("bereft"), [])
        assert sound and f"{STEPS} steps" in lines[-1]
    finally:
        cluster.revive("node2")
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
