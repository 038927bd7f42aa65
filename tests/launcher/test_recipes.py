"""The recipes of training: valid, explained, what they claim to be, and each taken up to its first step."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from litebert.model.presets import PRESETS
from litebert.plan.devices import computes_bf16
from litebert.recipe import Recipe, parse_command
from litebert.train.ds_config import read_ds_config
from tests.distributed.bench import Bench, environment

REPOSITORY = Path(__file__).parents[2]
RECIPES = sorted((REPOSITORY / "launcher" / "recipes").glob("*.yaml"))
HAS_BF16 = computes_bf16(torch.device("cpu"))
PAPERS = {"albert_tiny", "albert_base", "albert_large", "albert_xlarge"}
# The same kind of model and run at a size that a CPU does in seconds; all else is the recipe's.
SMALL = {
    "model.hidden_size": 32,
    "model.embedding_size": 16,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.intermediate_size": 64,
    "data.global_batch": 16,
    "data.micro_tokens": 4096,
    "schedule.warmup_steps": 1,
    "train.steps": 2,
    "train.log_every": 1,
    "train.evaluate_every": 2,
    "train.evaluate_samples": 16,
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def teacher(bench: Bench) -> Path:
    """A BERT of two layers, hardly trained."""
    overrides = [f"--{key}={value}" for key, value in SMALL.items()] + ["--model.embedding_size=32"]
    launch("pretrain", REPOSITORY / "launcher" / "recipes" / "bert_base.yaml", bench, "teacher", overrides)
    return bench.run("teacher")


def distils(path: Path) -> bool:
    return "distill" in yaml.safe_load(path.read_text())


def read(path: Path) -> Recipe:
    folders = ["--data", "SHARDS", "--run", "RUN", *(["--teacher", "MODEL"] if distils(path) else [])]
    return parse_command(["--config", str(path), *folders], "", distils=distils(path)).recipe


def launch(script: str, path: Path, bench: Bench, run: str, more: list[str]) -> str:
    """Runs it to its end; what it says."""
    program = [sys.executable, str(REPOSITORY / "launcher" / f"{script}.py"), "--config", str(path)]
    place = ["--data", str(bench.shards), "--run", str(bench.run(run))]
    done = subprocess.run([*program, *place, *more], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_explains_every_key(path: Path) -> None:
    recipe = read(path).settled(bf16=True)
    read_ds_config(REPOSITORY / recipe.train.ds_config, recipe.train.precision)
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.strip().startswith("#")]
    assert [line for line in lines if not line.rstrip().endswith(":") and " # " not in line] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(path: Path, bench: Bench, teacher: Path) -> None:
    """Two steps of a shrunken model, with held-out documents and a checkpoint."""
    overrides = [f"--{key}={value}" for key, value in SMALL.items()]
    if read(path).model.embedding_size == read(path).model.hidden_size:
        overrides.append("--model.embedding_size=32")
    if distils(path):
        overrides += ["--teacher", str(teacher)]
    launch("distill" if distils(path) else "pretrain", path, bench, path.stem, overrides)
    assert json.loads((bench.run(path.stem) / "done.json").read_text()) == {"step": 2}
    resolved = Recipe.from_dict(yaml.safe_load((bench.run(path.stem) / "recipe.yaml").read_text()))
    assert (resolved.optimizer, resolved.objective) == (read(path).optimizer, read(path).objective)
    assert resolved == resolved.settled(bf16=True)
    assert resolved.distill == read(path).settled(HAS_BF16).distill
    assert "heldout_mlm" in bench.metrics(path.stem)[-1]


@pytest.mark.parametrize("began", ["fp32", "bf16"])
def test_a_precision_of_auto_is_the_one_that_a_run_began_with(began: str, bench: Bench) -> None:
    """Whatever is the faster one here."""
    path, run = REPOSITORY / "launcher" / "recipes" / "albert_demo.yaml", f"auto-{began}"
    small = [f"--{key}={value}" for key, value in SMALL.items()]
    launch("pretrain", path, bench, run, [*small, f"--train.precision={began}", "--train.steps=1"])
    said = launch("pretrain", path, bench, run, small)
    assert f"; {began}, ZeRO" in said
    assert ("emulated" in said) == (began == "bf16" and not HAS_BF16)
    assert json.loads((bench.run(run) / "done.json").read_text()) == {"step": 2}


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem in PAPERS], ids=lambda path: path.stem)
def test_the_albert_recipes_are_the_paper_s(path: Path) -> None:
    """Lan et al. 2020, section 4.1."""
    recipe = read(path)
    shape = PRESETS[path.stem.replace("_", "-")]
    assert recipe.model == shape
    assert (recipe.optimizer.kind, recipe.optimizer.lr, recipe.data.global_batch) == ("lamb", 1.76e-3, 4096)
    assert (recipe.train.steps, recipe.schedule.warmup_steps) == (125_000, 3125)


def test_the_distilled_one_is_distilbert_s() -> None:
    """Sanh et al. 2019, section 3 and the training command that was released with it."""
    recipe = read(REPOSITORY / "launcher" / "recipes" / "distil_6l.yaml")
    assert recipe.distill is not None
    assert dataclasses.replace(recipe.model, dropout=0.0) == PRESETS["distil-6"]
    weights = (recipe.distill.ce, recipe.objective.mlm, recipe.distill.cos, recipe.distill.temperature)
    assert weights == (5.0, 2.0, 1.0, 2.0)
    assert (recipe.optimizer.lr, recipe.optimizer.clip_norm, recipe.model.dropout) == (5e-4, 5.0, 0.1)


def test_every_size_that_was_promised_is_there() -> None:
    assert PAPERS | {"albert_demo", "bert_base", "one_day", "distil_6l", "distil_demo"} <= {
        path.stem for path in RECIPES
    }


def test_two_lengths_are_an_override_of_a_recipe() -> None:
    """As its comment says."""
    path = next(path for path in RECIPES if path.stem == "albert_base")
    comment = next(line for line in path.read_text().splitlines() if "--data.mixture" in line)
    value = comment.split('"')[1]
    recipe = parse_command(
        ["--config", str(path), "--data", "A", "B", "--run", "R", "--data.mixture", value], ""
    ).recipe
    assert recipe.data.mixture == {0: [1, 0], 112_500: [0, 1]}
