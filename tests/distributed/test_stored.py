"""What holds for a teacher in the student's process holds for its stored answers, and both teach the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import launcher.teach
import launcher.verify
from litebert.data.split import Split
from litebert.distill.teacher import Teacher
from litebert.evaluate.heldout import evaluate_heldout
from litebert.train.checkpoint import read
from litebert.train.ledger import FILE
from litebert.train.ledger import read as read_ledger
from litebert.train.trained import load_trained
from tests.distributed.bench import Bench
from tests.distributed.test_distillation import NO_DROPOUT, STUDENT, TEACHER, micro_steps

pytestmark = pytest.mark.distributed

LONG = ("--train.steps", "40")
WORDS = ("--distill.cos", "0")
EVALUATED = ("--train.evaluate_every", "20", "--train.evaluate_samples", "0")
CODECS = {"hidden": (), "head": (), "head8": ("--codec.bits=8",), "sampled": ("--codec.draws=16",)}
# How far from the teacher's own: the divergence of the first step, by rounding, and the losses of 40, which drift.
FOLLOWS = {"hidden": (1e-4, 1e-4), "head": (1e-4, 1e-5), "head8": (1e-2, 1e-4)}

# And where the weights end, as a share of the way. Kept numbers are off by 2^-11 of themselves at most in 16 bits, by a
# 254th of the row's largest in 8. Adam's first steps, as large for small gradients as for large ones, make more of it:
# a run that goes over to stored answers half-way ends a hundred times nearer. Five to ten times what was found.
ENDS = {"hidden": 2e-3, "head": 1e-4, "head8": 2e-3, "change": 2e-5}


@pytest.fixture(scope="module")
def soft(bench: Bench) -> dict[str, Path]:
    """Answers of a teacher that has learnt something, by codec."""
    job = {"arguments": bench.arguments("s_teacher", *TEACHER, "--train.steps", "60")}
    assert bench.group(1, [job])[0] == [0]
    folders = {name: bench.folder / f"soft_{name}" for name in CODECS}
    for name, more in CODECS.items():
        kind = f"--codec.kind={name.removesuffix('8')}"
        given = ["--teacher", str(bench.run("s_teacher")), "--data", str(bench.shards), "--output", str(folders[name])]
        assert launcher.teach.main([*given, kind, *more]) == 0
    return folders


def job(
    bench: Bench, run: str, *overrides: str, stage: int = 1, soft: Path | None = None, stop_after: int | None = None
) -> dict[str, Any]:
    """With soft targets stored there, or of the teacher in the process."""
    arguments = bench.arguments(run, *STUDENT, "--objective.mlm", "2", *overrides, stage=stage)
    source = ["--soft", str(soft)] if soft else []
    return {"arguments": [*arguments, *source, "--teacher", str(bench.run("s_teacher"))], "stop_after": stop_after}


@pytest.fixture(scope="module")
def two_ranks(bench: Bench, soft: dict[str, Path]) -> list[int | str]:
    """Runs to the end, and one that stops half-way and is started again."""
    hidden = soft["hidden"]
    jobs = [
        job(bench, "s_whole", *LONG, soft=hidden),
        job(bench, "s_halves", *LONG, soft=hidden, stop_after=20),
        job(bench, "s_halves", *LONG, soft=hidden),
        *(job(bench, f"s_stage{stage}", "--train.steps", "8", soft=hidden, stage=stage) for stage in (0, 3)),
    ]
    return bench.group(2, jobs)[0]


@pytest.fixture(scope="module")
def one_rank(bench: Bench, soft: dict[str, Path]) -> list[int | str]:
    """Each codec and the teacher itself, and a run that goes on from the one with the other."""
    alone = (*NO_DROPOUT, *LONG, *EVALUATED)
    jobs = [
        job(bench, "s_live", *alone),
        job(bench, "s_words", *alone, *WORDS),
        job(bench, "s_hidden", *alone, soft=soft["hidden"]),
        job(bench, "s_head", *alone, *WORDS, soft=soft["head"]),
        job(bench, "s_head8", *alone, *WORDS, soft=soft["head8"]),
        job(bench, "s_sampled", *alone, *WORDS, "--distill.temperature", "1", soft=soft["sampled"]),
        job(bench, "s_change", *alone, stop_after=20),
        job(bench, "s_change", *alone, soft=soft["hidden"]),
    ]
    return bench.group(1, jobs)[0]


@pytest.fixture(scope="module")
def shapes(bench: Bench, soft: dict[str, Path]) -> None:
    """The same run on 1 rank with 8 micro-batches a step, and on 2 with 4."""
    split = Split(str(bench.shards), "train")
    plans = ((seed, tokens) for seed in range(1, 200) for tokens in range(400, 500, 5))
    seed, tokens = next(plan for plan in plans if micro_steps(split, *plan) == {(8, 4)})
    settings = ("--data.global_batch", "32", "--data.seed", str(seed), "--data.micro_tokens", str(tokens))
    for ranks in (1, 2):
        more = (*NO_DROPOUT, *settings, "--train.steps", "5")
        assert bench.group(ranks, [job(bench, f"s_shape{ranks}", *more, soft=soft["hidden"])])[0] == [0]


def test_an_interrupted_run_is_the_whole_run_bit_for_bit(bench: Bench, two_ranks: list[int | str]) -> None:
    assert two_ranks == [0, 85, 0, 0, 0]
    assert bench.metrics("s_halves") == bench.metrics("s_whole")
    assert bench.hashes("s_halves", 40) == bench.hashes("s_whole", 40)
    halves, whole = (read_ledger(bench.run(f"s_{run}") / FILE)[0] for run in ("halves", "whole"))
    assert halves.tolist() == whole.tolist()
    assert launcher.verify.verify(bench.run("s_halves"), [])[1]


def test_stages_agree(bench: Bench, two_ranks: Any) -> None:
    np.testing.assert_allclose(bench.losses("s_stage3"), bench.losses("s_stage0"), rtol=0, atol=5e-6)


def test_ranks_and_micro_batches_are_exchangeable(bench: Bench, shapes: None) -> None:
    for line, other in zip(bench.metrics("s_shape1"), bench.metrics("s_shape2"), strict=True):
        assert other == pytest.approx(line, abs=1e-5, rel=1e-5)
    moved, whole = (
        read(bench.run(f"s_shape{ranks}") / "checkpoints/step-00000005").tensors("weights") for ranks in (1, 2)
    )
    for name in whole:
        torch.testing.assert_close(moved[name], whole[name], rtol=0, atol=5e-5, msg=name)


@pytest.mark.parametrize("codec", FOLLOWS)
def test_stored_answers_teach_what_the_teacher_does(bench: Bench, one_rank: list[int | str], codec: str) -> None:
    assert one_rank == [0] * 6 + [85, 0]
    live, stored = bench.metrics("s_live" if codec == "hidden" else "s_words"), bench.metrics(f"s_{codec}")
    rounding, drift = FOLLOWS[codec]
    assert stored[0]["ce"] == pytest.approx(live[0]["ce"], rel=rounding)
    for own, its in zip(stored, live, strict=True):
        assert own["loss"] == pytest.approx(its["loss"], rel=drift)
    assert stored != live


def apart(bench: Bench, run: str, other: str) -> float:
    """Root mean square of what the weights of two runs end apart, in units of the sum of their learning rates, which is
    about as far as Adam can move a weight."""
    own, its = (read(bench.run(each) / "checkpoints/step-00000040").tensors("weights") for each in (run, other))
    gaps = torch.cat([(own[name].double() - its[name].double()).ravel() for name in its])
    return float(gaps.square().mean().sqrt()) / sum(line["lr"] for line in bench.metrics(other))


@pytest.mark.parametrize("codec", FOLLOWS)
def test_they_lead_to_its_weights(bench: Bench, one_rank: Any, codec: str) -> None:
    """Where other answers, drawn ones of another temperature, lead a hundredth of the way elsewhere."""
    found = apart(bench, f"s_{codec}", "s_live" if codec == "hidden" else "s_words")
    print(f"{codec}: {found:.1e} of the way from the teacher's")
    assert 0 < found < ENDS[codec] < 0.01 < apart(bench, "s_sampled", "s_words")


def test_lines_tell_waiting_for_answers_from_waiting_for_data(bench: Bench, one_rank: Any) -> None:
    """A teacher in the process sends none."""
    stored, live = (
        [json.loads(line) for line in (bench.run(run) / "metrics.jsonl").read_text().splitlines()]
        for run in ("s_hidden", "s_live")
    )
    assert all(0 <= line["soft_wait"] <= line["loader_wait"] for line in stored)
    assert stored[0]["soft_wait"] > 0
    assert not any("soft_wait" in line for line in live)
    assert not any("teacher_busy" in line for line in stored + live)


def test_a_run_may_go_on_with_stored_answers(bench: Bench, one_rank: Any) -> None:
    """That it began with the teacher; the first half is the teacher's to the bit, the second the answers'."""
    changed, live = bench.metrics("s_change"), bench.metrics("s_live")
    assert changed[:20] == live[:20] and changed[20:] != live[20:]
    for own, its in zip(changed[20:], live[20:], strict=True):
        assert own["loss"] == pytest.approx(its["loss"], rel=1e-4)
    assert 0 < apart(bench, "s_change", "s_live") < ENDS["change"]
    ledgers = [read_ledger(bench.run(run) / FILE)[0].tolist() for run in ("s_change", "s_live")]
    assert ledgers[0] == ledgers[1]


@pytest.mark.parametrize("codec", ("hidden", "sampled"))
def test_heldout_documents_are_answered_too(bench: Bench, one_rank: Any, codec: str) -> None:
    """The figures are those of an evaluation with the teacher; of draws, the divergence in the mean alone."""
    trained = load_trained(bench.run(f"s_{codec}"))
    teacher = Teacher.load(bench.run("s_teacher"), trained.tokenizer.pieces)
    train, heldout = Split(bench.shards, "train"), Split(bench.shards, "heldout")
    figures = evaluate_heldout(trained.model, train, heldout, torch.device("cpu"), [teacher])
    last = bench.metrics(f"s_{codec}")[-1]
    called = "heldout_kl" if codec == "hidden" else "heldout_sampled_kl"
    assert [name for name in last if name.endswith("kl")] == [called]
    assert last[called] == pytest.approx(figures.kl, rel=1e-3, abs=1e-5 if codec == "hidden" else 0.1)
    assert last["heldout_agreement"] == pytest.approx(figures.agreement, abs=0.01)
    assert last["heldout_mlm"] == pytest.approx(figures.mlm_loss, rel=1e-5)


def test_no_teacher_is_needed(bench: Bench, soft: dict[str, Path]) -> None:
    """Whose answers they were is recorded all the same."""
    given = job(bench, "s_none", *WORDS, "--distill.start", "random", "--train.steps", "6", soft=soft["head"])
    alone = {"arguments": given["arguments"][:-2]}
    assert bench.group(1, [alone])[0] == [0]
    taught = json.loads((soft["head"] / "manifest.json").read_bytes())
    assert json.loads((bench.run("s_none") / "run.json").read_text())["fingerprints"]["teacher"] == taught["teacher"]
