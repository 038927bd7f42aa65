"""What follows from a plan, and its page; and a plan of this machine beside what then happens on it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from litebert.model.presets import PRESETS
from litebert.plan.devices import DEVICES
from litebert.plan.estimate import Job, best, settings, total
from litebert.plan.memory import state
from litebert.plan.network import Cluster, collectives, sent
from litebert.plan.work import Work
from tests.distributed.bench import Bench, environment

REPOSITORY = Path(__file__).parents[3]
COUNT = 1_000_000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def printed(*arguments: object, code: int = 0) -> str:
    command = [sys.executable, "launcher/plan.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize(("stage", "bytes_each"), [(1, 8 + 12 / 4), (2, 2 + 18 / 4), (3, 20 / 4)])
def test_state_in_bf16_is_that_of_the_zero_paper_with_fp32_accumulation(stage: int, bytes_each: float) -> None:
    """Rajbhandari et al. 2020: 2 bytes of weights, 2 of gradients, 12 of state; and 4 that accumulate."""
    assert total(state(COUNT, stage, "bf16", 4)) == pytest.approx(COUNT * bytes_each)


def test_stages_0_to_2_send_alike_and_3_half_as_much_again() -> None:
    """Rajbhandari et al. 2020, section 7: two, two and three times the parameters, for one micro-batch."""
    volumes = [total(sent(COUNT, stage, "fp32", 1024, 1)) / COUNT / 4 for stage in (0, 2, 3)]
    assert volumes == pytest.approx([2, 2, 3], rel=2e-3)
    assert not sent(COUNT, 3, "fp32", 1, 5)


def test_collectives_are_slowed_to_what_a_node_has_of_network() -> None:
    """H100 nodes of eight with 400 Gb/s a device: 400 GB/s, as NCCL measures between them, beside 450 inside."""
    device = DEVICES["H100"]
    assert [Cluster(nodes, 8, device).speed / 1e9 for nodes in (1, 2, 64)] == [450, 400, 400]
    assert Cluster(8, 1, device).speed == device.network
    assert Cluster(1, 1, device).latency == 0 < Cluster(1, 8, device).latency < Cluster(2, 8, device).latency
    zero3 = {"zero_optimization": {"stage": 3, "reduce_bucket_size": COUNT // 2}}
    assert collectives(COUNT, 12, zero3, 3) == 3 * (2 + 24)
    assert collectives(COUNT, 12, {"zero_optimization": {"stage": 1, "reduce_bucket_size": 1e5}}, 3) == 10 + 1


def test_the_choice_fits_and_is_the_lowest_stage_of_the_fast() -> None:
    job = Job(dataclasses.replace(PRESETS["albert-xxlarge"], sharing="none"), "bf16", Work.full(512, 512), 512)
    for name in ("H200", "RTX 3090"):
        device = DEVICES[name]
        compared = settings(job, Cluster(1, 8, device))
        chosen = best(compared, device.memory)
        fitting = [each for each in compared if each.bytes < 0.9 * device.memory]
        assert (chosen is None) == (not fitting)
        if chosen:
            fastest = min(each.seconds for each in fitting)
            assert chosen.seconds <= 1.02 * fastest
            assert not [e for e in fitting if e.stage < chosen.stage and e.seconds <= 1.02 * fastest]
        compared_bytes = {(each.stage, each.micro_tokens): each.bytes for each in compared}
        largest = max(size for _, size in compared_bytes)
        assert compared_bytes[1, largest] > compared_bytes[2, largest] > compared_bytes[3, largest]


def test_more_devices_take_less_time_each_and_the_same_work() -> None:
    job = Job(PRESETS["bert-base"], "bf16", Work.full(4096, 128), 128)
    one, eight = (settings(job, Cluster(1, n, DEVICES["H100"]))[-1] for n in (1, 8))
    assert 4 < one.seconds / eight.seconds <= 8


def test_a_page_without_data() -> None:
    page = printed("launcher/recipes/albert_demo.yaml", "--device", "A100", "--gpus", "4", "--train.steps", "700")
    assert "run       700 steps x" in page and "choice    ZeRO" in page and "all samples full" in page


def test_a_page_of_a_cluster_with_teachers() -> None:
    page = printed("launcher/recipes/distil_6l.yaml", "--nodes", 4, "--gpus", 8, "--teacher", "bert-base")
    (failures,) = (line for line in page.splitlines() if line.startswith("failures"))
    assert f"one in {264 * 24 / 4:,.1f} hours" in failures and "keep 32 students at work" in page
    share = float(page.split("devices keep")[0].split()[-1].replace(",", "")) / 32
    assert 0.4 < share < 1.2  # twice the layers, a third of the passes
    many = printed("launcher/recipes/albert_base.yaml", "--nodes", 512, "--gpus", 8, "--node-mtbf-days", 1)
    assert "one in 0.0 hours" in many
    assert "--teacher" in printed("launcher/recipes/distil_6l.yaml", code=2)


def test_what_cannot_be_planned_is_said_in_a_line() -> None:
    recipe = "launcher/recipes/albert_demo.yaml"
    assert "give it --data SHARDS" in printed(recipe, "--device", "here", code=2)
    assert "are 1 or more" in printed(recipe, "--gpus", "0", code=2)
    assert "did you mean train.steps" in printed(recipe, "--train.stepz", "5", code=2)


def test_a_measured_plan_is_near_what_then_happens(bench: Bench) -> None:
    """Within a factor of two, on whatever else this machine is doing; figures are for a quiet one."""
    sizes = ["--model.hidden_size", "192", "--model.intermediate_size", "768", "--data.global_batch", "64"]
    sizes += ["--train.steps", "6", "--data.micro_tokens", "2048"]
    page = printed(bench.folder / "recipe.yaml", "--data", bench.shards, "--device", "here", *sizes)
    planned = float(page.split(" tokens/s,")[0].split("= ")[-1].replace(",", ""))
    program = [sys.executable, str(REPOSITORY / "launcher" / "pretrain.py"), *bench.arguments("planned", *sizes)]
    subprocess.run(program, env=environment(), check=True, capture_output=True)
    lines = [json.loads(line) for line in (bench.run("planned") / "metrics.jsonl").read_text().splitlines()]
    happened = sorted(line["tokens_per_s"] for line in lines)[len(lines) // 2]
    assert 0.5 < planned / happened < 2
