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
from litebert.plan.network import Cluster
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


def test_a_page_of_a_recipe_without_a_size_is_of_the_size_that_it_recommends() -> None:
    recipe = ("launcher/recipes/albert_base.yaml", "--device", "H100", "--gpus", "8")
    page = printed(*recipe, "--data.micro_tokens", "auto")
    chosen = int(page.split("choice    ZeRO 1 with data.micro_tokens ")[1].split(":")[0])
    assert f"{chosen:,} tokens at once" in page and "1.00 x the recipe's step" in page
    said = printed(*recipe, "--data.micro_tokens", str(chosen))
    assert page[page.index("step  ") :] == said[said.index("step  ") :]


def test_a_page_of_a_cluster_with_teachers() -> None:
    page = printed("launcher/recipes/distil_6l.yaml", "--nodes", 4, "--gpus", 8, "--teacher", "bert-base")
    (failures,) = (line for line in page.splitlines() if line.startswith("failures"))
    assert f"one in {264 * 24 / 4:,.1f} hours" in failures and "keep 32 students at work" in page
    share = float(page.split("devices keep")[0].split()[-1].replace(",", "")) / 32
    assert 0.4 < share < 1.2  # twice the layers, a third of the passes
    assert "--teacher" in printed("launcher/recipes/distil_6l.yaml", code=2)


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
