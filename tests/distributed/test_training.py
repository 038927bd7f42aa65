"""What training computes does not depend on ZeRO stage, world size, or where it was interrupted."""

from __future__ import annotations

import fcntl
from typing import Any

import numpy as np
import pytest
import torch

from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.train.checkpoint import read_weights
from litebert.train.ledger import FILE, read
from tests.distributed.bench import STEPS, Bench
from tests.distributed.plain import plain_training

pytestmark = pytest.mark.distributed

STAGES = (0, 1, 2, 3)
HALF = STEPS // 2
LONG = ("--train.steps", "40")
NO_DROPOUT = ("--model.dropout", "0")
DISTIL = ("--model.pooler", "false", "--model.token_types", "0", "--train.steps", "5")


def job(bench: Bench, run: str, *overrides: str, stage: int = 1, stop_after: int | None = None) -> dict[str, Any]:
    return {"arguments": bench.arguments(run, *overrides, stage=stage), "stop_after": stop_after}


@pytest.fixture(scope="module")
def two_ranks(bench: Bench) -> list[int | str]:
    """At every stage a run to the end, and one that stops half-way and is started again; then three more."""
    jobs = []
    for stage in STAGES:
        jobs += [
            job(bench, f"whole{stage}", *LONG, stage=stage),
            job(bench, f"halves{stage}", *LONG, stage=stage, stop_after=20),
            job(bench, f"halves{stage}", *LONG, stage=stage),
        ]
    jobs += [
        job(bench, "two_ranks", *NO_DROPOUT, stage=2),
        job(bench, "elastic", *NO_DROPOUT, stage=1, stop_after=7),
        job(bench, "damaged", *NO_DROPOUT, "--train.checkpoint_every", "5", stop_after=HALF),
    ]
    jobs.append(job(bench, "tight", "--data.global_batch", "1"))
    return bench.group(2, jobs)[0]


@pytest.fixture(scope="module")
def two_ranks_bf16(bench: Bench) -> list[int | str]:
    """The same in bf16, shorter."""
    jobs = []
    for stage in STAGES[1:]:
        short = ("--train.precision", "bf16", "--train.steps", "6")
        jobs += [
            job(bench, f"whole_bf16_{stage}", *short, stage=stage),
            job(bench, f"halves_bf16_{stage}", *short, stage=stage, stop_after=3),
            job(bench, f"halves_bf16_{stage}", *short, stage=stage),
        ]
    jobs.append(job(bench, "whole_bf16_0", *short, stage=0))
    return bench.group(2, jobs)[0]


@pytest.fixture(scope="module")
def one_rank(bench: Bench, two_ranks: list[int | str]) -> tuple[list[int | str], str]:
    """A run by itself; what two ranks began, gone on with; commands that must be refused."""
    damaged = bench.run("damaged") / "checkpoints" / "step-00000010" / "part-0001.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-7] ^= 1
    damaged.write_bytes(content)
    (bench.run("foreign")).mkdir()
    (bench.run("foreign") / "thesis.txt").write_text("do not touch")
    jobs = [
        job(bench, "one_rank", *NO_DROPOUT, stage=0),
        job(bench, "elastic", *NO_DROPOUT, stage=3, stop_after=7),
        job(bench, "damaged", *NO_DROPOUT),
        job(bench, "whole1", "--optimizer.lr", "1e-4", "--model.hidden_size", "66", "--train.log_every", "3"),
        job(bench, "whole1", "--train.steps", "19"),
        job(bench, "foreign"),
        job(bench, "one_rank", *NO_DROPOUT, stage=0),
        job(bench, "short", "--data.micro_tokens", "100", "--model.max_positions", "90"),
        job(bench, "distil", *DISTIL, "--objective.sop", "0"),
        job(bench, "distil_with_sop", *DISTIL, "--objective.sop", "1"),
        job(bench, "held"),
    ]
    (bench.run("held")).mkdir()
    with (bench.run("held") / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return bench.group(1, jobs)


@pytest.fixture(scope="module")
def shapes(bench: Bench) -> list[list[dict[str, float]]]:
    """The same run on 1 rank with 8 micro-batches a step, on 2 with 4, on 4 with 2; their metrics."""
    plans = ((seed, tokens) for seed in range(1, 200) for tokens in range(400, 500, 5))
    split = Split(str(bench.shards), "train")
    seed, tokens = next(plan for plan in plans if micro_steps(split, *plan) == {(8, 4, 2)})
    settings = ("--data.global_batch", "32", "--data.seed", str(seed), "--data.micro_tokens", str(tokens))
    for ranks in (1, 2, 4):
        outcomes, _ = bench.group(ranks, [job(bench, f"shape{ranks}", *NO_DROPOUT, *settings, "--train.steps", "5")])
        assert outcomes == [0]
    return [bench.metrics(f"shape{ranks}") for ranks in (1, 2, 4)]


def micro_steps(split: Split, seed: int, tokens: int) -> set[tuple[int, ...]]:
    """On 1, 2 and 4 ranks, of each of five steps."""
    plan = Plan(split, DataConfig(global_batch=32, seed=seed, micro_tokens=tokens))
    return {tuple(plan.cuts(plan.step(n), ranks).shape[1] - 1 for ranks in (1, 2, 4)) for n in range(5)}


@pytest.fixture(scope="module")
def three_ranks(bench: Bench, one_rank: tuple[list[int | str], str]) -> list[int | str]:
    """The last third of what one and two ranks began."""
    return bench.group(3, [job(bench, "elastic", *NO_DROPOUT, stage=3)])[0]


def test_runs_end_as_they_should(two_ranks: list[int | str]) -> None:
    assert two_ranks[:-1] == [0, 85, 0] * len(STAGES) + [0, 85, 85]


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_run_is_the_whole_run_bit_for_bit(bench: Bench, two_ranks: Any, stage: int) -> None:
    assert bench.metrics(f"halves{stage}") == bench.metrics(f"whole{stage}")
    assert bench.hashes(f"halves{stage}", 40) == bench.hashes(f"whole{stage}", 40)
    halves, whole = (read(bench.run(f"{run}{stage}") / FILE)[0] for run in ("halves", "whole"))
    assert halves.tolist() == whole.tolist()
    assert halves["step"].tolist() == list(range(40))


@pytest.mark.parametrize("stage", STAGES[1:])
def test_so_it_is_in_bf16(bench: Bench, two_ranks_bf16: Any, stage: int) -> None:
    assert two_ranks_bf16[:-1] == [0, 85, 0] * 3
    assert bench.metrics(f"halves_bf16_{stage}") == bench.metrics(f"whole_bf16_{stage}")
    assert bench.hashes(f"halves_bf16_{stage}", 6) == bench.hashes(f"whole_bf16_{stage}", 6)


def test_bf16_without_fp32_weights_is_refused(two_ranks_bf16: Any) -> None:
    assert "use stage 1, 2 or 3" in two_ranks_bf16[-1]


@pytest.mark.parametrize("stage", STAGES[1:])
def test_stages_agree(bench: Bench, two_ranks: Any, stage: int) -> None:
    np.testing.assert_allclose(bench.losses(f"whole{stage}"), bench.losses("whole0"), rtol=0, atol=1e-6)


def test_world_sizes_agree(bench: Bench, one_rank: Any) -> None:
    np.testing.assert_allclose(bench.losses("two_ranks"), bench.losses("one_rank"), rtol=0, atol=1e-5)


def test_ranks_and_micro_batches_are_exchangeable(bench: Bench, shapes: list[list[dict[str, float]]]) -> None:
    whole = weights(bench, "shape1", 5)
    for ranks, lines in zip((1, 2, 4), shapes, strict=True):
        losses, expected = ([line["loss"] for line in each] for each in (lines, shapes[0]))
        np.testing.assert_allclose(losses, expected, rtol=0, atol=2e-6)
        for name, weight in weights(bench, f"shape{ranks}", 5).items():
            torch.testing.assert_close(weight, whole[name], rtol=0, atol=2e-5, msg=f"{ranks} ranks: {name}")


def test_a_run_moves_between_world_sizes_and_stages(bench: Bench, one_rank: Any, three_ranks: Any) -> None:
    """7 steps on 2 ranks at stage 1, 7 on 1 rank at stage 3, 6 on 3 ranks at stage 3."""
    assert one_rank[0][1] == 85
    assert three_ranks == [0]
    np.testing.assert_allclose(bench.losses("elastic"), bench.losses("one_rank"), rtol=0, atol=1e-5)
    moved, whole = (weights(bench, run) for run in ("elastic", "one_rank"))
    for name in whole:
        torch.testing.assert_close(moved[name], whole[name], rtol=0, atol=2e-4, msg=name)


def test_training_is_what_plain_torch_computes(bench: Bench, two_ranks: Any) -> None:
    """Against torch's AdamW and clipping on whole global batches, with neither DeepSpeed nor ranks."""
    losses, model = plain_training(bench.arguments("plain", *NO_DROPOUT))
    np.testing.assert_allclose(bench.losses("two_ranks"), losses, rtol=0, atol=1e-5)
    trained = weights(bench, "two_ranks")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained[name], parameter.data, rtol=0, atol=2e-4, msg=name)


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(bench: Bench, one_rank: Any) -> None:
    outcomes, log = one_rank
    assert outcomes[2] == 0
    (line,) = [line for line in log.splitlines() if "damaged" in line and "skipping" in line]
    assert "step-00000010/part-0001.safetensors" in line
    np.testing.assert_allclose(bench.losses("damaged"), bench.losses("one_rank"), rtol=0, atol=1e-5)
    steps = [line["step"] for line in bench.metrics("damaged")]
    assert steps == list(range(1, STEPS + 1))


def test_another_recipe_is_refused_with_every_difference(bench: Bench, one_rank: Any) -> None:
    message = one_rank[0][3]
    assert "\n" not in message
    assert "optimizer.lr was 0.003, now 0.0001" in message
    assert "model.hidden_size was 63, now 66" in message
    assert "log_every was" not in message
    assert "what may change: the number of ranks, data." in message and "train.steps)" in message
    assert "raise train.steps" in one_rank[0][4]


def test_a_folder_with_something_else_is_refused_untouched(bench: Bench, one_rank: Any) -> None:
    assert "choose another --run" in one_rank[0][5]
    assert [path.name for path in bench.run("foreign").iterdir()] == ["thesis.txt"]


def test_a_finished_run_has_nothing_left_to_do(bench: Bench, one_rank: Any) -> None:
    assert one_rank[0][6] == 0
    assert (bench.run("one_rank") / "done.json").exists()
    assert len(bench.metrics("one_rank")) == STEPS


def test_a_recipe_too_short_for_the_data_is_refused(bench: Bench, one_rank: Any) -> None:
    message = one_rank[0][7]
    assert "data.micro_tokens 100" in message and "model.max_positions 90" in message
    assert not bench.run("short").exists()


def test_a_batch_that_the_ranks_cannot_share_is_refused_before_anything_is_made(bench: Bench, two_ranks: Any) -> None:
    assert "global_batch 1 is too few samples for 2 ranks" in two_ranks[-1]
    assert not (bench.run("tight") / "run.json").exists()


def test_a_model_without_a_pair_head_trains_on_words_alone(bench: Bench, one_rank: Any) -> None:
    assert one_rank[0][8] == 0
    assert all("sop" not in line and line["loss"] == line["mlm"] for line in bench.metrics("distil"))
    assert "pooler" in one_rank[0][9] and not (bench.run("distil_with_sop") / "run.json").exists()


def test_a_folder_in_which_another_training_is_at_work_is_refused(bench: Bench, one_rank: Any) -> None:
    assert "another training is at work" in one_rank[0][10]
    assert [path.name for path in bench.run("held").iterdir()] == [".lock"]


def weights(bench: Bench, run: str, step: int = STEPS) -> dict[str, torch.Tensor]:
    return read_weights(bench.run(run) / "checkpoints" / f"step-{step:08d}")
