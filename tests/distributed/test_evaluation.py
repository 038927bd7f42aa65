"""Held-out figures of a run in progress: exact, the same however many ranks there are, without a seam at a resume."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from litebert.cloze import SENTENCES
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.evaluate.heldout import evaluate_heldout
from litebert.train.trained import load_trained
from tests.distributed.bench import Bench

pytestmark = pytest.mark.distributed

EVALUATE = ("--train.evaluate_every", "3", "--train.evaluate_samples", "0", "--train.steps", "7")
STILL = ("--optimizer.lr", "1e-30")  # less than fp32 weights can notice


def job(bench: Bench, run: str, *overrides: str, stage: int, stop_after: int | None = None) -> dict[str, Any]:
    return {"arguments": bench.arguments(run, *EVALUATE, *overrides, stage=stage), "stop_after": stop_after}


@pytest.fixture(scope="module")
def runs(bench: Bench) -> None:
    """On one rank and on two; "halves" in two sessions."""
    one = [job(bench, "one", stage=0), job(bench, "still1", *STILL, stage=1)]
    one += [job(bench, "halves", stage=1, stop_after=4), job(bench, "traced", "--profile", "2", stage=1)]
    two = [job(bench, "still2", *STILL, stage=3), job(bench, "whole", stage=1)]
    assert bench.group(1, one)[0] == [0, 0, 85, 0]
    assert bench.group(2, two)[0] == [0, 0]
    assert bench.group(1, [job(bench, "halves", stage=1)])[0] == [0]


def heldout(bench: Bench, run: str) -> list[dict[str, float]]:
    """What the lines have of it, with their steps."""
    lines = [json.loads(line) for line in (bench.run(run) / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key == "step" or key.startswith("heldout_")}
        for line in lines
        if "heldout_mlm" in line
    ]


def test_figures_are_those_of_the_whole_split(bench: Bench, runs: None) -> None:
    """Beside ``evaluate_heldout``, which is held against a walk through the samples."""
    trained = load_trained(bench.run("one"))
    train, split = Split(bench.shards, "train"), Split(bench.shards, "heldout")
    expected = evaluate_heldout(trained.model, train, split, torch.device("cpu"))
    lines = heldout(bench, "one")
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert lines[-1]["heldout_mlm"] == pytest.approx(expected.mlm_loss, rel=1e-5)
    assert lines[-1]["heldout_mlm_accuracy"] == pytest.approx(expected.mlm_accuracy, rel=1e-5)
    assert lines[-1]["heldout_sop_accuracy"] == pytest.approx(expected.sop_accuracy, rel=1e-5)
    assert lines[0]["heldout_mlm"] != lines[-1]["heldout_mlm"]


def test_any_number_of_ranks_and_any_stage_find_the_same_bits(bench: Bench, runs: None) -> None:
    one, two = heldout(bench, "still1"), heldout(bench, "still2")
    assert one == two and len(one) == 3
    assert len({line["heldout_mlm"] for line in one}) == 1  # nor does dropout have a part in it


def test_a_resumed_run_has_one_curve(bench: Bench, runs: None) -> None:
    """Dropout goes by rank, so that it is a run of one rank that is to be repeated."""
    assert [line["step"] for line in bench.metrics("halves")] == list(range(1, 8))
    events = EventAccumulator(str(bench.run("halves") / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("heldout/mlm")] == [3, 6, 7]
    same = [line["heldout_mlm"] for line in heldout(bench, "halves")]
    assert same == pytest.approx([line["heldout_mlm"] for line in heldout(bench, "one")], rel=1e-5)


def test_evaluation_leaves_training_alone(bench: Bench, runs: None) -> None:
    bench.group(1, [job(bench, "blind", "--train.evaluate_every", "0", stage=0)])
    assert bench.losses("blind") == bench.losses("one")


def test_every_line_says_how_fast_it_went(bench: Bench, runs: None) -> None:
    for line in map(json.loads, (bench.run("whole") / "metrics.jsonl").read_text().splitlines()):
        assert line["tokens_per_s"] > 0 and line["mfu"] > 0 and 0 <= line["loader_wait"] < 1
        assert 0.1 < line["memory_gb"] < 10
        assert ("evaluation_s" in line) == (line["step"] in (3, 6, 7))


def test_sentences_are_filled_in_on_a_page(bench: Bench, runs: None) -> None:
    events = EventAccumulator(str(bench.run("whole") / "tensorboard")).Reload()
    pages = events.Tensors("filled/text_summary")
    assert [page.step for page in pages] == [3, 6, 7]
    text = pages[-1].tensor_proto.string_val[0].decode()
    assert all(sentence in text for sentence in SENTENCES) and text.count("%") == 3 * len(SENTENCES)


def test_a_trace_has_the_steps_that_were_asked_for(bench: Bench, runs: None) -> None:
    trace = json.loads((bench.run("traced") / "profile" / "rank-0.json").read_text())
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert sum(name == "aten::embedding" for name in names) == 3 * micro_steps(bench)
    assert "aten::" in (bench.run("traced") / "profile" / "rank-0.txt").read_text()


def micro_steps(bench: Bench) -> int:
    """Of both steps that were traced: embeddings of words, types and positions are looked up once in each."""
    plan = Plan(Split(bench.shards, "train"), DataConfig(global_batch=16, micro_tokens=600))
    return sum(plan.cuts(plan.step(number), 1).shape[1] - 1 for number in (3, 4))
