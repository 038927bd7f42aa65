"""What holds for pretraining holds for distillation: stages, ranks, interruptions; and the teacher stays outside."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

import launcher.verify
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.distill.teacher import Teacher
from litebert.evaluate.heldout import evaluate_heldout
from litebert.export.huggingface import export_huggingface
from litebert.model.heads import PretrainingModel
from litebert.recipe import parse_command
from litebert.train.checkpoint import read, read_weights
from litebert.train.ledger import FILE
from litebert.train.ledger import read as read_ledger
from litebert.train.trained import load_trained
from tests.distributed.bench import Bench

pytestmark = pytest.mark.distributed

STAGES = (0, 1, 2, 3)
HALVED = (1, 3)
NO_DROPOUT = ("--model.dropout", "0")
TEACHER = (*NO_DROPOUT, "--model.num_layers", "4", "--model.sharing", "none")
STUDENT = ("--model.sharing", "none", "--model.token_types", "0", "--model.pooler", "false", "--objective.sop", "0")
# Another shape, and every loss there is, on every place: all that a recipe can ask for at once.
EVERYTHING = (
    *("--model.hidden_size", "45", "--model.num_layers", "2", "--objective.sop", "0.5", "--distill.sop", "1"),
    *("--distill.hidden", "1", "--distill.relation", "1", "--distill.map", "all"),
    *("--distill.ce_at", "all", "--distill.hidden_at", "all"),
)
EXPORTED = ("--model.hidden_size", "63", "--model.embedding_size", "63")
LONG = ("--train.steps", "40")


def job(
    bench: Bench,
    run: str,
    *overrides: str,
    stage: int = 1,
    teacher: str = "teacher",
    student: tuple[str, ...] = STUDENT,
    stop_after: int | None = None,
) -> dict[str, Any]:
    arguments = bench.arguments(run, *student, "--objective.mlm", "2", *overrides, stage=stage)
    return {"arguments": [*arguments, "--teacher", str(bench.run(teacher))], "stop_after": stop_after}


@pytest.fixture(scope="module")
def teacher(bench: Bench) -> None:
    """Two of them."""
    jobs = [
        {"arguments": bench.arguments("teacher", *TEACHER, "--train.steps", "80")},
        {"arguments": bench.arguments("other_teacher", *TEACHER, "--train.seed", "2", "--train.steps", "6")},
    ]
    assert bench.group(1, jobs)[0] == [0, 0]


@pytest.fixture(scope="module")
def two_ranks(bench: Bench, teacher: None) -> list[int | str]:
    """Runs to the end at every stage; at some, one that stops half-way and is started again."""
    jobs = []
    for stage in HALVED:
        jobs += [
            job(bench, f"d_whole{stage}", *LONG, stage=stage),
            job(bench, f"d_halves{stage}", *LONG, stage=stage, stop_after=20),
            job(bench, f"d_halves{stage}", *LONG, stage=stage),
        ]
    jobs += [job(bench, f"d_stage{stage}", "--train.steps", "8", stage=stage) for stage in STAGES]
    short = (*NO_DROPOUT, "--train.steps", "6")
    jobs += [
        job(bench, "d_all0", *short, student=EVERYTHING, stage=0),
        job(bench, "d_all3", *short, student=EVERYTHING, stage=3),
        job(bench, "d_all_halves3", *short, student=EVERYTHING, stage=3, stop_after=3),
        job(bench, "d_all_halves3", *short, student=EVERYTHING, stage=3),
    ]
    lamb = ("--optimizer.kind", "lamb", "--optimizer.lr", "2e-2", "--train.steps", "8")
    jobs += [job(bench, f"d_lamb{stage}", *lamb, stage=stage) for stage in (0, 3)]
    return bench.group(2, jobs)[0]


@pytest.fixture(scope="module")
def one_rank(bench: Bench, two_ranks: list[int | str]) -> list[int | str]:
    """What must be refused; evaluation, several teachers, and a teacher in bf16."""
    evaluated = ("--train.evaluate_every", "6", "--train.steps", "6", "--train.evaluate_samples", "0")
    several = job(bench, "d_several", *evaluated, "--distill.cos", "0")
    several["arguments"].append(str(bench.run("other_teacher")))
    too_many = job(bench, "d_too_many")
    too_many["arguments"].append(str(bench.run("other_teacher")))
    jobs = [
        job(bench, "d_whole1", *LONG, teacher="other_teacher"),
        job(bench, "d_whole1", *LONG, "--distill.temperature", "1"),
        several,
        too_many,
        job(bench, "d_unknown", teacher="nothing"),
        job(bench, "d_layers", "--distill.layers", "[1, 5]"),
        job(bench, "d_exported", *EXPORTED, "--distill.precision", "bf16", "--train.steps", "6"),
        job(bench, "d_random", "--distill.start", "random", *LONG),
        job(bench, "d_all_alone", *NO_DROPOUT, "--train.steps", "6", student=EVERYTHING, stage=2),
    ]
    return bench.group(1, jobs)[0]


@pytest.fixture(scope="module")
def shapes(bench: Bench, teacher: None) -> None:
    """The same run on 1 rank with 8 micro-batches a step, and on 2 with 4."""
    split = Split(str(bench.shards), "train")
    plans = ((seed, tokens) for seed in range(1, 200) for tokens in range(400, 500, 5))
    seed, tokens = next(plan for plan in plans if micro_steps(split, *plan) == {(8, 4)})
    settings = ("--data.global_batch", "32", "--data.seed", str(seed), "--data.micro_tokens", str(tokens))
    for ranks in (1, 2):
        more = (*NO_DROPOUT, *settings, "--train.steps", "5")
        both = [job(bench, f"d_shape{ranks}", *more), job(bench, f"d_all_shape{ranks}", *more, student=EVERYTHING)]
        assert bench.group(ranks, both)[0] == [0, 0]


def micro_steps(split: Split, seed: int, tokens: int) -> set[tuple[int, ...]]:
    """On 1 and 2 ranks, of each of five steps."""
    plan = Plan(split, DataConfig(global_batch=32, seed=seed, micro_tokens=tokens))
    return {tuple(plan.cuts(plan.step(n), ranks).shape[1] - 1 for ranks in (1, 2)) for n in range(5)}


def test_runs_end_as_they_should(two_ranks: list[int | str]) -> None:
    assert two_ranks == [0, 85, 0] * len(HALVED) + [0] * len(STAGES) + [0, 0, 85, 0] + [0, 0]


@pytest.mark.parametrize("stage", HALVED)
def test_an_interrupted_run_is_the_whole_run_bit_for_bit(bench: Bench, two_ranks: Any, stage: int) -> None:
    assert bench.metrics(f"d_halves{stage}") == bench.metrics(f"d_whole{stage}")
    assert bench.hashes(f"d_halves{stage}", 40) == bench.hashes(f"d_whole{stage}", 40)
    halves, whole = (read_ledger(bench.run(f"d_{run}{stage}") / FILE)[0] for run in ("halves", "whole"))
    assert halves.tolist() == whole.tolist()
    assert launcher.verify.verify(bench.run(f"d_halves{stage}"), [])[1]


def test_so_it_is_with_every_loss_at_once(bench: Bench, two_ranks: Any) -> None:
    assert bench.metrics("d_all_halves3") == bench.metrics("d_all3")
    assert bench.hashes("d_all_halves3", 6) == bench.hashes("d_all3", 6)
    losses = {"mlm", "sop", "ce", "cos", "hidden", "relation", "soft_sop", "agreement"}
    assert losses <= bench.metrics("d_all3")[-1].keys()


@pytest.mark.parametrize("stage", STAGES[1:])
def test_stages_agree(bench: Bench, two_ranks: Any, stage: int) -> None:
    np.testing.assert_allclose(bench.losses(f"d_stage{stage}"), bench.losses("d_stage0"), rtol=0, atol=5e-6)


@pytest.mark.parametrize("optimizer", ("d_lamb", "d_all"))
def test_so_they_do_with_lamb_and_with_every_loss(bench: Bench, two_ranks: Any, optimizer: str) -> None:
    np.testing.assert_allclose(bench.losses(f"{optimizer}3"), bench.losses(f"{optimizer}0"), rtol=0, atol=2e-5)


def test_world_sizes_agree(bench: Bench, one_rank: list[int | str]) -> None:
    np.testing.assert_allclose(bench.losses("d_all_alone"), bench.losses("d_all0"), rtol=0, atol=2e-5)


@pytest.mark.parametrize("run", ("d_shape", "d_all_shape"))
def test_ranks_and_micro_batches_are_exchangeable(bench: Bench, shapes: None, run: str) -> None:
    one, two = bench.metrics(f"{run}1"), bench.metrics(f"{run}2")
    for line, other in zip(one, two, strict=True):
        assert other == pytest.approx(line, abs=1e-5, rel=1e-5)
    moved, whole = (
        read(bench.run(f"{run}{ranks}") / "checkpoints/step-00000005").tensors("weights") for ranks in (1, 2)
    )
    for name in whole:
        torch.testing.assert_close(moved[name], whole[name], rtol=0, atol=5e-5, msg=name)


def test_a_checkpoint_holds_the_student_alone(bench: Bench, two_ranks: Any) -> None:
    recipe = parse_command(job(bench, "d_whole3")["arguments"], "", distils=True).recipe
    student = PretrainingModel(recipe.model_config(121))
    for stage in HALVED:
        tensors = read(bench.run(f"d_whole{stage}") / "checkpoints/step-00000040").tensors("weights")
        assert {name: t.shape for name, t in tensors.items()} == {
            f"model.{name}": parameter.shape for name, parameter in student.named_parameters()
        }
    everything = read(bench.run("d_all3") / "checkpoints/step-00000006").tensors("weights")
    assert {name for name in everything if not name.startswith("model.")} == {"projection.weight", "projection.bias"}


def test_what_is_learnt_is_loaded_as_any_other_model(bench: Bench, two_ranks: Any) -> None:
    trained = load_trained(bench.run("d_whole3"))
    assert trained.step == 40 and trained.recipe.distill is not None
    weights = read_weights(bench.run("d_whole3") / "checkpoints/step-00000040")
    assert all(torch.equal(weights[name], parameter) for name, parameter in trained.model.named_parameters())


def test_a_student_comes_to_say_what_its_teacher_says(bench: Bench, one_rank: list[int | str]) -> None:
    """From a random start; from the teacher's layers it is nearer to begin with."""
    lines = bench.metrics("d_random")
    assert np.mean([line["ce"] for line in lines[-5:]]) < 0.5 * lines[0]["ce"]
    assert np.mean([line["cos"] for line in lines[-5:]]) < 0.5 * lines[0]["cos"]
    begun = bench.metrics("d_whole1")[0]
    assert begun["ce"] < lines[0]["ce"] and begun["cos"] < 0.5 * lines[0]["cos"]


def test_it_is_exported_as_a_distilbert(bench: Bench, one_rank: list[int | str]) -> None:
    """Whose logits the export itself compares."""
    folder = bench.folder / "d_export"
    assert one_rank[6] == 0
    export_huggingface(load_trained(bench.run("d_exported")), folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["DistilBertForMaskedLM"]
    assert "token_type_ids" not in json.loads((folder / "tokenizer_config.json").read_text())["model_input_names"]


def test_another_teacher_is_refused(bench: Bench, one_rank: list[int | str]) -> None:
    fingerprint = json.loads((bench.run("d_whole1") / "run.json").read_text())["fingerprints"]["teacher"]
    message = str(one_rank[0])
    assert f"teacher was {fingerprint}, now " in message and "\n" not in message
    assert "distill.temperature was 2.0, now 1.0" in str(one_rank[1])


def test_several_teachers_are_averaged_where_they_can_be(bench: Bench, one_rank: list[int | str]) -> None:
    assert one_rank[2] == 0
    assert "2 teachers: only what they say can be averaged" in str(one_rank[3])


def test_figures_on_heldout_documents_are_those_of_an_evaluation(bench: Bench, one_rank: list[int | str]) -> None:
    trained = load_trained(bench.run("d_several"))
    teachers = [Teacher.load(bench.run(name), trained.tokenizer.pieces) for name in ("teacher", "other_teacher")]
    train, heldout = Split(bench.shards, "train"), Split(bench.shards, "heldout")
    figures = evaluate_heldout(trained.model, train, heldout, torch.device("cpu"), teachers)
    last = bench.metrics("d_several")[-1]
    assert last["heldout_mlm"] == pytest.approx(figures.mlm_loss, rel=1e-5)
    assert last["heldout_kl"] == pytest.approx(figures.kl, rel=1e-5)
    assert last["heldout_agreement"] == pytest.approx(figures.agreement, rel=1e-5)
    alone = evaluate_heldout(trained.model, train, heldout, torch.device("cpu"))
    assert alone == dataclasses.replace(figures, kl=None, agreement=None, mlm_loss=alone.mlm_loss)
    assert alone.mlm_loss == pytest.approx(figures.mlm_loss, rel=1e-6)


def test_what_is_no_teacher_is_refused(bench: Bench, one_rank: list[int | str]) -> None:
    assert "no teacher" in str(one_rank[4]) and "distill.layers [1, 5]" in str(one_rank[5])
    assert not bench.run("d_unknown").exists() and not bench.run("d_layers").exists()
