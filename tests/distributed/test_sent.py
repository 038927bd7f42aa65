"""What a plan says is sent, beside the collectives of trainings on two ranks over gloo."""

from __future__ import annotations

import json
from typing import Any

import pytest

from litebert.data.plan import Plan
from litebert.data.split import Split
from litebert.plan.network import collectives, sent
from litebert.plan.work import parameters
from litebert.recipe import parse_command
from litebert.train.ds_config import read_ds_config
from tests.distributed.bench import REPOSITORY, Bench
from tests.distributed.collectives import Log
from tests.distributed.forked import forked

pytestmark = pytest.mark.distributed

RANKS, STEPS = 2, 4
LOOKED_AT = range(2, STEPS)  # stage 3 first has to see which weights are used in turn
MANY = ("--data.global_batch", "64", "--train.steps", str(STEPS), "--schedule.warmup_steps", "1")
CUT_ALWAYS = {"stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 0}
SETTINGS = {
    "stage 0": (0, "fp32", {}),
    "stage 1, fp32": (1, "fp32", {}),
    "stage 1": (1, "bf16", {}),
    "stage 2, fp32": (2, "fp32", {}),
    "stage 2": (2, "bf16", {}),
    "stage 3": (3, "bf16", {}),
    "stage 3 that keeps nothing": (3, "bf16", CUT_ALWAYS),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_plan_counts_what_is_sent(bench: Bench, setting: str) -> None:
    """With the repository's ds_configs, but for ``stage3_param_persistence_threshold``: all weights here are below it.

    Of bytes, padding and norms may differ: a thousandth of a model of 60,000 numbers. Of collectives none; but each
    module's weights come by themselves where nothing is fetched ahead.
    """
    stage, precision, changes = SETTINGS[setting]
    name = setting.replace(" ", "_").replace(",", "")
    ds_config: dict[str, Any] = read_ds_config(REPOSITORY / f"ds_configs/zero{stage}.json", precision)
    ds_config["zero_optimization"] |= changes | ({"stage3_param_persistence_threshold": 0} if stage == 3 else {})
    (bench.folder / f"{name}.json").write_text(json.dumps(ds_config))
    sharing = ("--model.sharing", "none" if changes else "all")  # a block for all layers would come for each of them
    settings = (*MANY, *sharing, "--train.precision", precision, "--train.ds_config", f"{bench.folder}/{name}.json")
    arguments = bench.arguments(name, *settings)
    log = Log(bench.folder / f"{name}.collectives")
    log.folder.mkdir()
    with forked(RANKS, arguments, bench.folder / f"{name}.log", log) as job:
        assert job.codes(400) == [0] * RANKS, (bench.folder / f"{name}.log").read_text()

    recipe, split = parse_command(arguments, "").recipe, Split(str(bench.shards), "train")
    plan = Plan(split, recipe.data)
    count = sum(parameters(recipe.model_config(split.vocab_size)).values())
    for rank in range(RANKS):
        for step in LOOKED_AT:
            micro = plan.cuts(plan.step(step), RANKS).shape[1] - 1
            assert micro >= 2
            happened = [each for each in log.read(rank) if each.step == step]
            planned = sent(count, ds_config, precision, RANKS, micro)
            measured = sum(each.sent(RANKS) for each in happened)
            print(f"{setting}: {count:,} parameters, {micro} micro-batches: {measured:,.0f} B of {planned}")
            assert measured == pytest.approx(sum(amount.value for amount in planned.values()), rel=1e-3)
            if not changes:
                assert len(happened) == sum(collectives(count, ds_config, precision, micro).values())
