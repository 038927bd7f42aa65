"""The recipes that come with the data tools: valid, whole, and what their comments say."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

import data_tools
from data_tools.build import BuildConfig
from data_tools.commands import build

RECIPES = sorted((Path(data_tools.__file__).parent / "recipes").glob("*.yaml"))


def parsed(*arguments):
    parser = ArgumentParser(exit_on_error=False)
    build.arguments(parser)
    return parser.instantiate(parser.parse_args(["--input=IN", "--tokenizer=TOK", "--output=OUT", *arguments]))


def keys(value, prefix=""):
    if not isinstance(value, dict) or not value:
        return {prefix}
    return {key for name, part in value.items() for key in keys(part, f"{prefix}.{name}" if prefix else name)}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_valid_and_explains_every_key(path):
    options = parsed("--config", str(path))
    fields = [field.name for field in dataclasses.fields(BuildConfig)]
    BuildConfig(**{name: options[name] for name in fields})
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not line.rstrip().endswith(":") and " # " not in line] == []


def test_the_pretraining_recipe_has_every_key_at_its_default():
    path = next(path for path in RECIPES if path.name == "pretrain.yaml")
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaults = {**dataclasses.asdict(BuildConfig()), "executor": "", "workers": "", "tasks": ""}
    assert {key for key in keys(recipe) if not key.startswith("slurm")} == keys(defaults)
    assert parsed("--config", str(path)) == parsed("--config", str(path), "--seed", "1")
    with_recipe, without = parsed("--config", str(path)), parsed()
    for name in recipe:
        assert with_recipe[name] == without[name], name


def test_the_command_line_beats_the_recipe():
    options = parsed("--config", str(RECIPES[0]), "--masks.rate", "0.2", "--mix.weights.wiki", "2")
    assert options.masks.rate == 0.2 and options.mix.weights == {"wiki": 2.0}
    assert options.masks.copies == 1
