"""A few rounds of tests/distributed/service_torture.py; what a run shows of its teacher, and says when left alone."""

from __future__ import annotations

import json
import random
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.distill.addresses import announced
from litebert.distill.codecs import CodecConfig
from litebert.distill.lesson import Lesson, TeachConfig
from litebert.distill.message import Asked
from tests.distributed.bench import Bench
from tests.distributed.service_torture import torture
from tests.distributed.test_distillation import STUDENT, TEACHER
from tests.litebert.distill.services import CPU, Columns, serving

pytestmark = pytest.mark.distributed

DRIFT = 1e-5  # of losses from those of a live teacher: its hidden states are rounded to 16 bits on the way


def test_five_kills_leave_no_trace(bench: Bench) -> None:
    """At other moments each time: a failure shows the seed."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    figures = torture(bench, 5, seed)
    assert figures["kills"] == 5 and len(figures["by_kind"]) == 4
    assert 0 < figures["losses_from_live_by"]["most"] < DRIFT


def test_lines_say_what_was_waited_for_and_how_busy_the_teacher_was(bench: Bench) -> None:
    """Of one that thinks for seconds about the only blocks there are, before the first step, beside its own clock."""
    assert bench.group(1, [{"arguments": bench.arguments("slow_teacher", *TEACHER, "--train.steps", "6")}])[0] == [0]
    lesson = Lesson(bench.shards, bench.run("slow_teacher"), CodecConfig("hidden"), TeachConfig(), CPU)
    spans: list[float] = []

    def slowly(asked: Asked) -> Columns:
        begun = time.monotonic()
        time.sleep(2)
        answers = lesson.answers(asked)
        spans.append(time.monotonic() - begun)
        return answers

    more = ("--objective.mlm", "2", "--distill.start", "random", "--train.steps", "6")
    given = [*bench.arguments("slowly_taught", *STUDENT, *more), "--fleet", str(bench.folder / "slow_fleet")]
    with serving(lesson, slowly) as served, announced(bench.folder / "slow_fleet", served.address):
        assert bench.group(1, [{"arguments": given}])[0] == [0]
    split = Split(bench.shards, "train")
    assert len(spans) == len(split.block_samples) == 2
    first, second, *others = map(json.loads, (bench.run("slowly_taught") / "metrics.jsonl").read_text().splitlines())
    tokens = Plan(split, DataConfig(global_batch=16, micro_tokens=600)).step(0).counts.tokens
    seconds = tokens / first["tokens_per_s"]
    assert first["soft_wait"] * seconds == pytest.approx(sum(spans), rel=0.2)
    assert first["soft_wait"] <= first["loader_wait"] and "teacher_busy" not in first
    assert second["teacher_busy"] == pytest.approx(sum(spans) / seconds, rel=0.3)
    assert all(line["soft_wait"] == 0 <= line["loader_wait"] for line in (second, *others))
    assert all(line.get("teacher_busy", 0) < 0.1 for line in others)
    events = EventAccumulator(str(bench.run("slowly_taught") / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("machine/soft_wait")] == list(range(1, 7))
    assert events.Scalars("machine/teacher_busy")[0].step == 2


def test_a_student_without_a_teacher_gives_up(bench: Bench) -> None:
    """After its patience, and says what it waited for."""
    nowhere = bench.folder / "nobody"
    given = bench.arguments(
        "left_alone", "--distill.patience", "1", "--distill.start", "random", "--objective.sop", "0"
    )
    (outcome,), log = bench.group(1, [{"arguments": [*given, "--fleet", str(nowhere)]}])
    assert f"no teacher at {nowhere}: start one with launcher/teach.py --serve" in str(outcome)
    assert not bench.run("left_alone").exists() and "Traceback" not in log
