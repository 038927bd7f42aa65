"""Signals and kills: what they leave behind, and that a run which lived through them shows nothing of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from litebert.train.checkpoint import latest
from litebert.train.ledger import FILE, read
from tests import terminal
from tests.distributed.bench import REPOSITORY, Bench, environment, free_port

pytestmark = pytest.mark.distributed

PRETRAIN = str(REPOSITORY / "launcher" / "pretrain.py")
DEEPSPEED = str(Path(sys.executable).with_name("deepspeed"))
# Lines and checkpoints at steps that never meet: a resume begins in the middle of a line's mean.
UNEVEN = ("--train.steps", "90", "--train.log_every", "7", "--train.checkpoint_every", "10")


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A command at a terminal of its own, which ends with this."""
    process = terminal.started(
        command, env=environment(DS_ACCELERATOR="cpu"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def survivor(bench: Bench) -> list[int]:
    """A run that was killed well past its checkpoint, then asked to stop, then left alone: its exit codes."""
    command = [sys.executable, PRETRAIN, *bench.arguments("survivor", *UNEVEN)]
    plan = [("step-00000040", 40, signal.SIGKILL), ("step-00000060", 10, signal.SIGTERM), ("step-00000090", 10, None)]
    metrics = bench.run("survivor") / "metrics.jsonl"
    codes = []
    for name, every, number in plan:
        with started(*command, "--train.checkpoint_every", str(every)) as process:
            if number == signal.SIGKILL:
                wait_until(lambda: metrics.exists() and '"step": 56' in metrics.read_text())
            wait_until((bench.run("survivor") / "checkpoints" / name).exists)
            if number:
                process.send_signal(number)
            process.communicate(timeout=60)
            codes.append(process.returncode)
    return codes


def test_a_stopped_run_asks_to_be_continued(survivor: list[int]) -> None:
    assert survivor == [-signal.SIGKILL, 85, 0]


def test_no_seam_and_no_double_points(bench: Bench, survivor: list[int]) -> None:
    bench.group(1, [{"arguments": bench.arguments("undisturbed", *UNEVEN)}])
    lived, undisturbed = bench.metrics("survivor"), bench.metrics("undisturbed")
    assert [line["step"] for line in lived] == [*range(7, 90, 7), 90]
    for one, other in zip(lived, undisturbed, strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    events = EventAccumulator(str(bench.run("survivor") / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("learning/loss")] == [line["step"] for line in lived]
    np.testing.assert_allclose(
        [event.value for event in events.Scalars("learning/loss")], bench.losses("survivor"), rtol=1e-6
    )


def test_ctrl_c_on_deepspeed_leaves_a_checkpoint(bench: Bench) -> None:
    """Terminal, front and launcher send each rank several signals; the checkpoint outlasts them all."""
    arguments = bench.arguments("ctrl_c", "--train.steps", "100000", "--train.log_every", "5")
    metrics = bench.run("ctrl_c") / "metrics.jsonl"
    front = (DEEPSPEED, "--num_gpus", "2", "--master_port", str(free_port()))
    with started(*front, PRETRAIN, *arguments) as process:
        wait_until(lambda: metrics.exists() and metrics.read_text())
        os.killpg(process.pid, signal.SIGINT)
        wait_until(lambda: not alive(process.pid))
    found = latest(bench.run("ctrl_c"))
    assert found is not None
    records, _ = read(bench.run("ctrl_c") / FILE)
    assert records["step"].tolist() == list(range(found.step))
    assert not (bench.run("ctrl_c") / "done.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_a_run_starts_ends_it_in_a_line(bench: Bench, number: signal.Signals) -> None:
    with started(sys.executable, PRETRAIN, *bench.arguments("unbegun")) as process:
        wait_until(lambda: caught(process.pid, number))
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 85
    assert said == f"stopped ({number.name}) before anything was begun; the same command goes on\n"
    assert not bench.run("unbegun").exists()


def caught(pid: int, number: int) -> bool:
    """Whether a process has our handler for a signal; Python's own for Ctrl-C is there before."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), 16)
    return all(mask >> (each - 1) & 1 for each in (number, signal.SIGUSR1))


def alive(group: int) -> bool:
    """Whether a process group still has running members."""
    members = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    for member in members:
        with contextlib.suppress(OSError):
            state, _, process_group = (member / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            if int(process_group) == group and state != "Z":
                return True
    return False


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--train.stepz", "5"), "unknown key train.stepz (did you mean train.steps?)"),
        (("--train.ds_config", "nowhere.json"), "nowhere.json: not a DeepSpeed JSON file"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(bench: Bench, wrong: tuple[str, ...], said: str) -> None:
    command = [sys.executable, PRETRAIN, *bench.arguments("wrong"), *wrong]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pretrain: ") and said in line
    assert not bench.run("wrong").exists()
