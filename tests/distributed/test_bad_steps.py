"""Steps that go bad: refused as if they had not been, or gone back behind; the same on all ranks, at every stage."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from launcher.verify import verify
from litebert.model import ModelConfig, PretrainingModel, save_huggingface
from litebert.train.checkpoint import published
from litebert.train.journal import errors
from litebert.train.ledger import FILE, Kind, read
from tests.distributed.bench import Bench, environment

pytestmark = pytest.mark.distributed

SETTINGS = [*((stage, "fp32") for stage in range(4)), *((stage, "bf16") for stage in (1, 2, 3))]
STEPS = 10
SPIKES = ("--health.spike_deviations", "20", "--health.spike_window", "16", "--train.steps", "24")


def job(bench: Bench, run: str, *overrides: str, stage: int = 2, **sabotage: Any) -> dict[str, Any]:
    settings = ("--train.steps", str(STEPS), "--train.checkpoint_every", "4", *overrides)
    return {"arguments": bench.arguments(run, *settings, stage=stage), "sabotage": sabotage}


@pytest.fixture(scope="module")
def outcomes(bench: Bench) -> tuple[list[int | str], str]:
    jobs = []
    for stage, precision in SETTINGS:
        overrides = ("--train.precision", precision)
        jobs += [
            job(bench, f"bad_{precision}_{stage}", *overrides, stage=stage, adds=[[3, math.nan], [5, math.inf]]),
            job(bench, f"without_{precision}_{stage}", *overrides, stage=stage, leaves_out=[3, 5]),
        ]
    jobs += [
        job(bench, "back", adds=[[step, math.nan] for step in (5, 6, 7)]),
        job(bench, "without_back", leaves_out=[5, 6, 7]),
        job(bench, "spiked", *SPIKES, adds=[[step, 50.0] for step in (19, 20, 21)]),
        job(bench, "without_spiked", *SPIKES, leaves_out=[19, 20, 21]),
        job(bench, "ruined", "--train.steps", "20", "--optimizer.lr", "1e30", "--schedule.warmup_steps", "0"),
        job(bench, "hopeless", "--train.steps", "20", adds=[[step, math.nan] for step in range(5, 20)]),
    ]
    return bench.group(2, jobs)


@pytest.mark.parametrize(("stage", "precision"), SETTINGS)
def test_a_bad_step_is_as_if_it_had_not_been(bench: Bench, outcomes: Any, stage: int, precision: str) -> None:
    """One that is not a number, one that is infinite: weights, moments and the count of updates are those of a run that
    never saw the batches."""
    run, without = bench.run(f"bad_{precision}_{stage}"), bench.run(f"without_{precision}_{stage}")
    assert bench.hashes(run.name, STEPS) == bench.hashes(without.name, STEPS)
    assert [info(path)["updates"] for path in (run, without)] == [STEPS - 2] * 2
    lines = bench.metrics(run.name)
    assert [line["step"] for line in lines if line.get("bad_steps") == 1] == [4, 6]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    said, sound = verify(run, [])
    assert sound and "fed, but not learnt from, for they were not finite: steps 3, 5" in said[0]
    assert f"{STEPS} steps of {(STEPS - 2) * 16} samples" in said[1]


def test_several_in_a_row_are_gone_back_behind(bench: Bench, outcomes: Any) -> None:
    """From the checkpoint after 4 steps, although there was time for one after 8."""
    assert bench.hashes("back", STEPS) == bench.hashes("without_back", STEPS)
    (entry,) = json.loads((bench.run("back") / "rollbacks.json").read_text())
    assert (entry["first"], entry["last"]) == (5, 7) and "not finite" in entry["reason"]
    assert info(bench.run("back"))["skipped"] == [5, 6, 7]
    records, without = (read(bench.run(run) / FILE)[0] for run in ("back", "without_back"))
    assert records.tolist() == without.tolist()
    assert records["step"].tolist() == list(range(STEPS))
    assert records["step"][records["kind"] == Kind.SKIPPED].tolist() == [5, 6, 7]
    lines, sound = verify(bench.run("back"), [])
    assert sound and "left out by roll-backs: steps 5-7" in lines[0]
    assert "steps 5 to 7 went bad" in outcomes[1]


def test_so_is_a_spike(bench: Bench, outcomes: Any) -> None:
    assert bench.hashes("spiked", 24) == bench.hashes("without_spiked", 24)
    (entry,) = json.loads((bench.run("spiked") / "rollbacks.json").read_text())
    assert (entry["first"], entry["last"]) == (19, 21) and "after a mean of" in entry["reason"]


def test_a_run_that_keeps_going_bad_ends_and_says_why(bench: Bench, outcomes: Any) -> None:
    assert "went back 4 times in 100 steps, the last time for steps 14 to 16 with a loss or gradient" in outcomes[0][-1]
    assert outcomes[0][:-2] == [0] * (len(outcomes[0]) - 2)
    found = errors(bench.run("hopeless"))
    assert sorted(line.split()[2] for line in found) == ["0:", "1:"] and all(
        "went back 4 times" in line for line in found
    )
    log = (bench.run("hopeless") / "log.txt").read_text()
    assert "step 5/20" in log and "steps 5 to 7 went bad" in log and not errors(bench.run("back"))


def test_weights_that_the_first_step_ruined_are_never_saved(bench: Bench, outcomes: Any) -> None:
    """Checkpoints are due while batches are left out that had gone bad through the weights."""
    assert "went back 4 times in 100 steps" in outcomes[0][-2]
    assert published(bench.run("ruined")) == []


@pytest.mark.parametrize("distils", [False, True], ids=["pretraining", "distillation"])
def test_no_step_asks_the_device(tmp_path: Path, bench: Bench, distils: bool) -> None:
    """Reads of a tensor's value by the host, counted where torch does them, with a teacher in the process and every
    loss against it as without; DeepSpeed's own show the count works."""
    arguments = bench.arguments("reads")
    if distils:
        weights = [f"--distill.{name}=1" for name in ("ce", "cos", "sop", "hidden", "relation")]
        arguments += ["--teacher", str(_teacher(bench, tmp_path)), "--distill.map", "all", *weights]
    script = Path(__file__).with_name("host_reads.py")
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=400)
    reads = json.loads(done.stdout.splitlines()[-1])
    assert reads["fp32"]["0"] == reads["fp32"]["1"] == reads["fp32"]["2"] == reads["bf16"]["2"] == 0
    assert min(reads["fp32"]["3"], reads["bf16"]["1"], reads["bf16"]["3"]) > 0


def _teacher(bench: Bench, folder: Path) -> Path:
    """Of the bench's vocabulary, that has learnt nothing."""
    shape = ModelConfig(121, 63, 33, num_layers=4, num_heads=3, intermediate_size=99)
    save_huggingface(PretrainingModel(shape), folder, pad_id=0, cls_id=2, sep_id=3)
    save_tokenizer(load_tokenizer(bench.shards / "tokenizer"), folder)
    return folder


def info(run: Path, step: int = STEPS) -> dict[str, Any]:
    return json.loads((run / "checkpoints" / f"step-{step:08d}" / "checkpoint.json").read_text())
