"""Micro-batches whose size is found by trying: within what memory there is, the same everywhere, and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from litebert.plan.processor import processor
from litebert.train.run import SIZES
from tests.distributed.bench import REPOSITORY, Bench, environment

pytestmark = pytest.mark.distributed

AUTO = ("--data.micro_tokens", "auto")
MB = 1_000_000
# 76 kB of activations for each token.
WIDE = (
    *("--model.hidden_size", "128", "--model.num_heads", "4", "--model.num_layers", "8"),
    *("--model.intermediate_size", "512", "--data.global_batch", "190"),
    *("--train.steps", "1", "--schedule.warmup_steps", "1"),
)
HALF, STEPS = 4, 8
SHORT = ("--train.steps", str(STEPS))


def here(ranks: int, stage: int = 1) -> str:
    return f"{ranks} x {processor()}, ZeRO {stage}"


@pytest.fixture(scope="module")
def two_ranks(bench: Bench) -> tuple[list[Any], str]:
    """A run to the end, and one in two sessions; one whose size was kept as 600, and one with that number; one for
    another number of ranks to go on with; a distillation; a batch too small."""
    bench.run("sized_kept").mkdir()
    (bench.run("sized_kept") / SIZES).write_text(json.dumps({here(2): 600, here(1): 700}))
    moves = (*AUTO, *SHORT, "--data.corrupt", "quarantine")
    jobs: list[dict[str, Any]] = [
        {"arguments": bench.arguments("sized_whole", *AUTO, *SHORT)},
        {"arguments": bench.arguments("sized_halves", *AUTO, *SHORT), "stop_after": HALF},
        {"arguments": bench.arguments("sized_halves", *AUTO, *SHORT)},
        {"arguments": bench.arguments("sized_kept", *AUTO, *SHORT)},
        {"arguments": bench.arguments("sized_said", "--data.micro_tokens", "600", *SHORT)},
        {"arguments": bench.arguments("sized_moved", *moves, stage=3), "stop_after": HALF},
        {"arguments": [*bench.arguments("sized_taught", *AUTO, *SHORT), "--teacher", str(bench.run("sized_whole"))]},
        {"arguments": bench.arguments("sized_tight", *AUTO, "--data.global_batch", "1")},
    ]
    return bench.group(2, jobs)


@pytest.fixture(scope="module")
def one_rank(bench: Bench, two_ranks: Any) -> tuple[list[Any], str]:
    """The rest of what two ranks began; and sizes of a wider model for some memory, and for more than it wants."""
    jobs: list[dict[str, Any]] = [
        {"arguments": bench.arguments("sized_moved", *AUTO, *SHORT, "--data.corrupt", "quarantine", stage=3)},
        {"arguments": bench.arguments("sized_wide", *WIDE), "spare": [500 * MB]},
        {"arguments": bench.arguments("sized_wide", *WIDE), "spare": [4000 * MB]},
        {"arguments": bench.arguments("sized_wide", *WIDE), "spare": [0]},
    ]
    return bench.group(1, jobs)


def sizes(bench: Bench, run: str) -> dict[str, int]:
    return json.loads((bench.run(run) / SIZES).read_text())


def test_a_run_in_two_sessions_is_the_whole_run_bit_for_bit(bench: Bench, two_ranks: tuple[list[Any], str]) -> None:
    outcomes, log = two_ranks
    assert outcomes[:3] == [0, 85, 0]
    assert bench.metrics("sized_halves") == bench.metrics("sized_whole")
    assert bench.hashes("sized_halves", STEPS) == bench.hashes("sized_whole", STEPS)
    share = 16 * 128 // 2 + 128
    assert sizes(bench, "sized_halves") == sizes(bench, "sized_whole") == {here(2): share}
    told = [line for line in log.splitlines() if line.startswith("auto ")]
    assert "a share of a batch is no more" in told[0] and "as it was before" in told[2]
    assert f"in micro-batches of at most {share:,}" in log


def test_a_size_that_was_kept_is_the_size_that_is_taken(bench: Bench, two_ranks: tuple[list[Any], str]) -> None:
    assert two_ranks[0][3:5] == [0, 0]
    assert bench.hashes("sized_kept", STEPS) == bench.hashes("sized_said", STEPS) != bench.hashes("sized_whole", STEPS)
    assert "micro_tokens: auto" in (bench.run("sized_kept") / "recipe.yaml").read_text()


def test_another_number_of_ranks_has_a_size_of_its_own(bench: Bench, two_ranks: Any, one_rank: Any) -> None:
    assert (two_ranks[0][5], one_rank[0][0]) == (85, 0)
    assert sizes(bench, "sized_moved") == {here(2, stage=3): 16 * 128 // 2 + 128, here(1, stage=3): 16 * 128 + 128}


def test_a_distillation_is_sized_with_its_teacher(bench: Bench, two_ranks: tuple[list[Any], str]) -> None:
    assert two_ranks[0][6] == 0
    assert sizes(bench, "sized_taught").keys() == {here(2)}


def test_a_batch_too_small_for_the_ranks_is_refused(bench: Bench, two_ranks: tuple[list[Any], str]) -> None:
    assert "global_batch 1 is too few samples for 2 ranks" in two_ranks[0][7]
    assert not (bench.run("sized_tight") / "run.json").exists()


def test_a_training_stays_within_the_memory_that_it_was_sized_for(bench: Bench, one_rank: Any) -> None:
    """By the system's count of a training's process, which was never told of a limit."""
    ((tight, memory),), ((roomy, _),) = (json.loads(outcome) for outcome in one_rank[0][1:3])
    assert 1024 < tight < roomy == 8192
    taken = {}
    for tokens in (tight, roomy):
        job = {"arguments": bench.arguments(f"sized_wide_{tokens}", *WIDE, "--data.micro_tokens", str(tokens))}
        assert bench.group(1, [job])[0] == [0]
        (line,) = (bench.run(f"sized_wide_{tokens}") / "metrics.jsonl").read_text().splitlines()
        taken[tokens] = json.loads(line)["memory_gb"] * 1e9
    assert 0.75 * memory < taken[tight] < memory < taken[roomy]


def test_whether_a_run_could_begin_is_seen_without_a_size(bench: Bench) -> None:
    program = [
        sys.executable,
        str(REPOSITORY / "launcher" / "pretrain.py"),
        *bench.arguments("sized_seen", *AUTO, "--check"),
    ]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "can begin" in done.stdout, done.stderr
    assert not bench.run("sized_seen").exists()


def test_too_little_memory_for_two_samples_is_refused(one_rank: tuple[list[Any], str]) -> None:
    message = one_rank[0][3]
    assert "not even two samples of 128 tokens fit" in message and "\n" not in message


def test_ranks_take_what_the_poorest_of_them_has_room_for(bench: Bench) -> None:
    spare = [[4000 * MB, 300 * MB], [300 * MB, 4000 * MB], [4000 * MB, 4000 * MB]]
    jobs = [{"arguments": bench.arguments("sized_wide", *WIDE), "spare": each} for each in spare]
    outcomes, _ = bench.group(2, jobs)
    (second, first, neither) = (json.loads(str(outcome)) for outcome in outcomes)
    for (own, _), (other, _) in (second, first, neither):
        assert own == other
    assert max(second[0][0], first[0][0]) < neither[0][0] == 8192
