"""What is said where memory does not suffice, and what is kept of sizes; training with them is in tests/distributed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from litebert.recipe import Recipe
from litebert.train.run import SIZES, RunFolder
from litebert.train.sizing import Sizing
from litebert.train.world import World
from tests.distributed.bench import REPOSITORY, Bench, environment

NOBODY: Any = None
WORLD = World(1, 2, torch.device("cpu"), NOBODY, NOBODY, NOBODY)
HERE = "2 x some, ZeRO 1"


def sizing(folder: Path, micro_tokens: int | str) -> Sizing:
    recipe = Recipe.from_dict({"data": {"micro_tokens": micro_tokens}})
    run = RunFolder(folder, {"data": "d", "tokenizer": "t"}, recipe, devices="2 x some")
    return Sizing(run, {"zero_optimization": {"stage": 1}}, WORLD)


@pytest.mark.parametrize(
    ("micro_tokens", "kept", "told", "tried_next"),
    [
        (8192, {}, "of 8,192 tokens: ", 4096),
        ("auto", {HERE: 5000}, "of 5,000 tokens, which auto chose: ", 2500),
        ("auto", {"1 x some, ZeRO 1": 5000}, "which auto tries first: ", 1024),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_to_try(
    micro_tokens: int | str, kept: dict[str, int], told: str, tried_next: int, tmp_path: Path
) -> None:
    (tmp_path / SIZES).write_text(json.dumps(kept))
    with pytest.raises(ValueError) as caught, sizing(tmp_path, micro_tokens).explained():
        torch.empty(2**60)
    message = str(caught.value)
    assert message.startswith("rank 1 has too little memory") and "\n" not in message
    assert told in message and f"--data.micro_tokens {tried_next}," in message


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="must match"), sizing(tmp_path, 8192).explained():
        torch.ones(2) + torch.ones(3)


@pytest.mark.parametrize("content", ["{", "[1]", '{"1 x some": "many"}', '{"1 x some": null}'])
def test_sizes_that_cannot_be_read_are_named(content: str, tmp_path: Path) -> None:
    (tmp_path / SIZES).write_text(content)
    with pytest.raises(ValueError, match=r"micro_tokens\.json: no list of sizes .*: remove it"):
        sizing(tmp_path, "auto")._kept()


@pytest.mark.gpu
def test_a_gpu_is_filled_and_not_overfilled(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    shape = ("--model.preset", "albert-xlarge", "--model.max_positions", "128", "--train.precision", "bf16")
    sizes = ("--data.global_batch", "2048", "--data.micro_tokens", "auto", "--train.steps", "3")
    config = ("--config", str(tmp_path / "small.yaml"), "--data", str(bench.shards), "--run", str(bench.run("filled")))
    (tmp_path / "small.yaml").write_text("train: {log_every: 1}\n")
    program = [sys.executable, str(REPOSITORY / "launcher" / "pretrain.py"), *config, *shape, *sizes]
    done = subprocess.run(program, env=environment(CUDA_VISIBLE_DEVICES="0"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (tokens,) = json.loads((bench.run("filled") / SIZES).read_text()).values()
    line = json.loads((bench.run("filled") / "metrics.jsonl").read_text().splitlines()[-1])
    assert tokens == 65_536 or line["memory_gb"] * 1e9 > torch.cuda.get_device_properties(0).total_memory / 2
