"""Ends that a run does not choose: a rank or a launcher that dies, its time, a disk that takes no more."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litebert.train.checkpoint import latest
from litebert.train.stopping import CONTINUE, PATIENCE
from litebert.train.watch import LOST
from tests.distributed.bench import Bench
from tests.distributed.forked import Job, forked
from tests.distributed.sabotage import Sabotage
from tests.distributed.test_interruptions import DEEPSPEED, PRETRAIN, alive, free_port, started, wait_until
from tests.server import served

pytestmark = pytest.mark.distributed

SECONDS = 10.0
STARTS = 120.0
ENDLESS = ("--train.steps", "100000", "--schedule.kind", "constant", "--train.checkpoint_every", "5")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextlib.contextmanager
def training(
    bench: Bench, run: str, *overrides: str, ranks: int = 3, before: Callable[[int], None] | None = None
) -> Iterator[tuple[Job, Path]]:
    """A run that goes on for ever, and its log."""
    log = bench.folder / f"{run}.log"
    with forked(ranks, bench.arguments(run, *ENDLESS, *overrides), log, before) as job:
        yield job, log


def under_way(bench: Bench, run: str) -> None:
    """Waits for a run's first checkpoint."""
    wait_until(lambda: latest(bench.run(run)), STARTS)


def test_a_killed_rank_ends_the_others(bench: Bench) -> None:
    with training(bench, "killed") as (job, log):
        under_way(bench, "killed")
        os.kill(job.ranks[1], signal.SIGKILL)
        assert job.codes(SECONDS) == [LOST, -signal.SIGKILL, LOST]
    said = [line for line in log.read_text().splitlines() if line.startswith("rank ")]
    assert said == ["rank 0: rank 1 is gone, so this run ends"]


def test_an_error_of_one_rank_is_all_that_is_shown(bench: Bench) -> None:
    with training(bench, "failed", before=Sabotage(rank=2, fails=7)) as (job, log):
        wait_until(lambda: "put into step 7" in log.read_text() if log.exists() else False, STARTS)
        codes = job.codes(SECONDS)
    assert codes == [LOST, LOST, 1]
    text = log.read_text()
    assert text.count("Traceback") == 1 and "ArithmeticError: put into step 7" in text
    assert text.index("put into step 7") < text.index("rank 1: rank 2 is gone, so this run ends")


def test_ranks_do_not_outlive_their_launcher(bench: Bench) -> None:
    with training(bench, "orphaned", ranks=2) as (job, _):
        under_way(bench, "orphaned")
        os.kill(job.launcher, signal.SIGKILL)
        job.gone(SECONDS)


def test_a_signal_to_one_rank_stops_all_at_one_step(bench: Bench) -> None:
    with training(bench, "asked") as (job, log):
        under_way(bench, "asked")
        os.kill(job.ranks[2], signal.SIGUSR1)
        assert job.codes(SECONDS) == [CONTINUE] * 3
    found = latest(bench.run("asked"))
    assert found is not None and found.step == bench.metrics("asked")[-1]["step"]
    assert f"stopped after step {found.step} (another rank was asked to); the same command goes on" in log.read_text()


def test_a_run_keeps_to_its_hours(bench: Bench) -> None:
    """The time of the launcher begins a little before that of the ranks."""
    seconds = 15.0
    begun = time.monotonic()
    with training(bench, "limited", "--train.max_hours", str(seconds / 3600), ranks=2) as (job, log):
        assert job.codes(2 * seconds) == [CONTINUE] * 2
        lasted = time.monotonic() - begun
    assert "(train.max_hours); the same command goes on" in log.read_text()
    assert 0.7 * seconds < lasted < seconds + 2
    assert latest(bench.run("limited")) is not None


@pytest.mark.parametrize("by", ["signal", "hours"])
def test_a_server_that_hangs_does_not_keep_a_run(bench: Bench, by: str) -> None:
    """The first block is asked for, and never comes."""
    asked: list[str] = []
    hours = ("--train.max_hours", str(8 / 3600)) if by == "hours" else ()
    with served(bench.shards, bad=lambda number: "hang" if asked[-1].endswith(".tar") else "") as server:
        asked = server.requests
        far = ("--data", server.url, "--data.cache", str(bench.folder / f"cache_{by}"), *hours)
        with training(bench, f"starved_{by}", *far, ranks=2) as (job, log):
            wait_until(lambda: asked and asked[-1].endswith(".tar"), STARTS)
            if by == "signal":
                os.kill(job.ranks[0], signal.SIGTERM)
            codes = job.codes(PATIENCE + SECONDS)
    assert CONTINUE in codes and set(codes) <= {CONTINUE, LOST}
    text = log.read_text()
    assert "while no data came; the same command goes on" in text and "Traceback" not in text


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_root
def test_a_full_disk_ends_a_run_in_a_line_and_keeps_its_checkpoint(bench: Bench) -> None:
    """There is room for one checkpoint of 0.7 MB and the half of another."""
    with (
        disk(bench.run("full"), "size=1200k"),
        training(bench, "full", "--train.log_every", "1000", ranks=2) as (job, log),
    ):
        assert job.codes(STARTS) == [2, LOST]
        errors = [line for line in log.read_text().splitlines() if line.startswith("pretrain: ")]
        assert len(errors) == 1 and "could not save a checkpoint" in errors[0] and "No space left" in errors[0]
        found = latest(bench.run("full"))
        assert found is not None and found.step == 5
        assert not list((bench.run("full") / "checkpoints").glob("*.tmp"))


@needs_root
def test_a_run_folder_that_cannot_be_written_is_one_line(bench: Bench) -> None:
    with disk(bench.run("read_only"), "ro"), training(bench, "read_only", ranks=2) as (job, log):
        assert job.codes(STARTS) == [2, LOST]
    (error,) = [line for line in log.read_text().splitlines() if line.startswith("pretrain: ")]
    assert "Read-only file system" in error and "read_only" in error


@needs_root
def test_checkpoints_that_can_no_longer_be_written_end_a_run_in_a_line(bench: Bench) -> None:
    checkpoints = bench.run("frozen") / "checkpoints"
    with training(bench, "frozen", ranks=2) as (job, log):
        under_way(bench, "frozen")
        subprocess.run(["mount", "--bind", str(checkpoints), str(checkpoints)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(checkpoints)], check=True)
            assert job.codes(SECONDS + 5) == [2, LOST]
        finally:
            subprocess.run(["umount", "--lazy", str(checkpoints)], check=True)
    errors = [line for line in log.read_text().splitlines() if line.startswith("pretrain: ")]
    assert len(errors) == 1 and "could not save a checkpoint" in errors[0] and "Read-only" in errors[0]
    assert latest(bench.run("frozen")) is not None


def test_a_deepspeed_command_that_is_terminated_leaves_a_checkpoint_and_no_ranks(bench: Bench) -> None:
    """It dies without a word to its launcher, which would train on unseen."""
    arguments = bench.arguments("front", *ENDLESS, "--train.checkpoint_every", "100000")
    front = (DEEPSPEED, "--num_gpus", "2", "--master_port", str(free_port()))
    metrics = bench.run("front") / "metrics.jsonl"
    with started(*front, PRETRAIN, *arguments) as process:
        wait_until(lambda: metrics.exists() and metrics.read_text(), STARTS)
        process.terminate()
        wait_until(lambda: not alive(process.pid), SECONDS)
        assert latest(bench.run("front")) is not None


def test_a_killed_rank_ends_a_deepspeed_command(bench: Bench) -> None:
    arguments = bench.arguments("front_killed", *ENDLESS)
    front = (DEEPSPEED, "--num_gpus", "2", "--master_port", str(free_port()))
    with started(*front, PRETRAIN, *arguments) as process:
        under_way(bench, "front_killed")
        ranks = subprocess.run(
            ["pgrep", "-g", str(process.pid), "-f", "local_rank=1"], capture_output=True, text=True, check=True
        )
        os.kill(int(ranks.stdout.split()[-1]), signal.SIGKILL)
        wait_until(lambda: not alive(process.pid), SECONDS)
        assert process.wait() != 0
