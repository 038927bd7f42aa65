"""Recipes: file, preset and command line, and one clear line for whatever is wrong with them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from litebert.model.presets import PRESETS
from litebert.recipe import OF_DISTILLATION, SECTIONS, Recipe, fixed, parse_command

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("--data", "SHARDS", "--run", "RUN")


def parse(*arguments: str) -> Recipe:
    return parse_command([*FOLDERS, *arguments], "").recipe


def distilled(*arguments: str) -> Recipe:
    return parse_command([*FOLDERS, "--teacher", "MODEL", *arguments], "", distils=True).recipe


def refusal(*arguments: str) -> str:
    with pytest.raises(ValueError) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text("model: {preset: albert-base, num_layers: 3}\noptimizer: {lr: 1e-4}\ntrain: {steps: 50, seed: 5}\n")
    return path


def test_folders_and_the_launchers_rank_are_read() -> None:
    command = parse_command(["--local_rank=3", "--data=SHARDS", "--run", "RUN", "--data.seed", "4"], "")
    assert (command.data, command.run, command.recipe.data.seed) == (("SHARDS",), Path("RUN"), 4)


def test_the_command_line_beats_the_file_beats_the_preset(recipe_file: Path) -> None:
    recipe = parse("--config", str(recipe_file), "--train.steps", "60", "--model.num_heads=8")
    assert (recipe.model.num_heads, recipe.model.num_layers) == (8, 3)
    assert recipe.model.hidden_size == PRESETS["albert-base"].hidden_size
    assert (recipe.train.steps, recipe.train.seed, recipe.optimizer.lr) == (60, 5, 1e-4)
    other = parse("--config", str(recipe_file), "--model.preset", "albert-large")
    assert (other.model.hidden_size, other.model.num_layers) == (PRESETS["albert-large"].hidden_size, 3)


def test_the_resolved_recipe_is_the_same_recipe(recipe_file: Path, tmp_path: Path) -> None:
    recipe = parse("--config", str(recipe_file), "--optimizer.betas", "[0.9, 0.98]", "--optimizer.eps", "1e-7")
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.to_yaml())
    assert parse("--config", str(resolved)) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_the_vocabulary_is_the_datas() -> None:
    assert parse().model_config(777).vocab_size == 777
    assert "model.vocab_size is for the data to decide" in refusal("--model.vocab_size", "5")


def test_what_may_change_is_no_part_of_what_is_fixed() -> None:
    one = parse()
    more = ("--train.steps", "7", "--train.log_every", "3", "--data.micro_tokens", "999", "--train.ds_config", "x")
    assert fixed(parse(*more).to_dict()) == fixed(one.to_dict())
    assert fixed(parse("--optimizer.lr", "1").to_dict()) != fixed(one.to_dict())


def test_unknown_keys_are_all_named_with_the_file_and_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("optimizer: {lrr: 1}\ntrian: {steps: 5}\nbatch: 3\n")
    message = refusal("--config", str(path))
    assert message.startswith(f"{path}: unknown key optimizer.lrr (did you mean optimizer.lr?)")
    assert "trian.steps (did you mean train.steps?)" in message and "unknown key batch" in message
    assert refusal("--train.setps", "5") == "command line: unknown key train.setps (did you mean train.steps?)"
    assert "--stepz" in refusal("--stepz", "5")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("train: {steps: many}", "train.steps"),
        ("train: {steps: 2.5}", "train.steps"),
        ("schedule: {kind: zigzag}", "schedule.kind"),
        ("model: {preset: bert-giant}", "model.preset"),
    ],
)
def test_a_wrong_value_names_its_key_and_the_file(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(line)
    message = refusal("--config", str(path))
    assert str(path) in message and key in message


@pytest.mark.parametrize("content", ["a: [", "just words", "- 1"])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    assert str(path) in refusal("--config", str(path))
    assert "nowhere.yaml" in refusal("--config", "nowhere.yaml")


def test_the_problems_of_all_sections_are_one_error() -> None:
    message = refusal(
        *("--optimizer.lr", "-1", "--optimizer.eps", "0", "--train.steps", "0"),
        *("--model.num_heads", "5", "--data.global_batch", "0"),
    )
    for part in ("lr -1", "eps 0", "steps 0", "num_heads 5", "global_batch 0"):
        assert part in message


FLOATS = sorted(
    f"{section}.{field.name}"
    for section, config in (SECTIONS | OF_DISTILLATION).items()
    for field in dataclasses.fields(config)
    if field.type == "float"
)


@pytest.mark.parametrize("key", FLOATS)
def test_numbers_that_are_not_finite_are_refused(key: str) -> None:
    section, name = key.split(".")
    for text, value in ((".nan", "nan"), (".inf", "inf"), ("-.inf", "-inf")):
        with pytest.raises(ValueError, match=rf"{section}: {name} {value} is no finite number$"):
            distilled(f"--{key}={text}")


def test_so_they_are_within_lists_and_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("optimizer: {lr: .nan, betas: [0.9, .inf], eps: 0}\ndata: {mixture: {0: [1, .nan]}}\n")
    message = refusal("--config", str(path), "--train.steps", "0")
    for part in ("data: mixture ", "optimizer: lr nan is no finite", "betas (0.9, inf) is no", "train: steps 0 is not"):
        assert part in message, message


@pytest.mark.parametrize("value", ["automatic", "0", "-1", "1.5"])
def test_micro_tokens_are_a_positive_number_or_auto(value: str) -> None:
    message = refusal(f"--data.micro_tokens={value}")
    assert "micro_tokens" in message and value in message
    recipe = parse("--data.micro_tokens", "auto")
    assert recipe.data.micro_tokens == "auto" and Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe
    recipe.check_data(512, "sop")


def test_contradictions_between_sections_are_one_error() -> None:
    message = refusal("--schedule.warmup_steps", "9", "--train.steps", "8", "--model.pooler", "false")
    assert "schedule.warmup_steps 9 exceeds train.steps 8" in message
    assert "objective.sop needs model.pooler" in message


def test_a_recipe_too_short_for_its_data_is_one_error() -> None:
    recipe = parse("--data.micro_tokens", "100", "--model.max_positions", "64")
    recipe.check_data(64, "sop")
    with pytest.raises(ValueError, match=r"data\.micro_tokens 100 .*; model\.max_positions 64"):
        recipe.check_data(128, "sop")


def test_a_recipe_for_other_pairs_than_the_datas_is_one_error() -> None:
    sop, nsp, neither = parse(), parse("--objective.sop", "0", "--objective.nsp", "0.5"), parse("--objective.sop", "0")
    for recipe, pairs in [(sop, "sop"), (nsp, "nsp"), (neither, "sop"), (neither, "nsp"), (neither, "none")]:
        recipe.check_data(64, pairs)
    with pytest.raises(ValueError, match=r"^objective.sop 1.0 has .* pairs.objective nsp: .* objective.nsp instead$"):
        sop.check_data(64, "nsp")
    with pytest.raises(ValueError, match=r"^objective.nsp 0.5 has .* pairs.objective sop: .* objective.sop instead$"):
        nsp.check_data(64, "sop")
    with pytest.raises(ValueError, match=r"^objective.sop 1.0 has .* pairs.objective none: set it to 0$"):
        sop.check_data(64, "none")
    assert "set one of sop and nsp to 0" in refusal("--objective.nsp", "1")
    assert "objective.nsp needs model.pooler" in refusal(
        "--objective.sop", "0", "--objective.nsp", "1", "--model.pooler", "false"
    )


def test_missing_folders_are_named() -> None:
    with pytest.raises(ValueError, match="--data and --run missing"):
        parse_command([], "")


def test_help_explains_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_command(["--help"], "Does things.")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    keys = set(fixed(parse().to_dict()))
    for key in keys | {"model.preset", "data", "run", "train.steps", "train.ds_config"}:
        assert re.search(rf" --{key} (\S+ |\{{[^}}]*\}} |\[ITEM,...\] )[^-(]", text), key


@pytest.mark.parametrize("path", sorted((REPOSITORY / "launcher" / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_sound_and_explained(path: Path) -> None:
    recipe = (distilled if "\ndistill:" in path.read_text() else parse)("--config", str(path))
    assert (REPOSITORY / recipe.train.ds_config).is_file()
    for line in path.read_text().splitlines():
        assert not re.match(r" +\w+: .", line) or "#" in line, f"{path.name}: {line.strip()} is not explained"


def test_a_mixture_comes_from_file_and_command_line_and_goes_through_yaml_and_json(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text("data: {mixture: {0: [1, 0], 9000: [0.5, 0.5]}}\n")
    expected = {0: [1, 0], 9000: [0.5, 0.5]}
    recipe = parse("--config", str(path))
    assert recipe.data.mixture == expected
    assert parse("--data.mixture", "{0: [1, 0], 9000: [0.5, 0.5]}").data.mixture == expected
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())).data.mixture == expected
    through_json = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(through_json).data.mixture == expected
    assert fixed(through_json) == fixed(recipe.to_dict())


def test_several_folders_are_several() -> None:
    command = parse_command(["--data", "A", "https://host/B", "--run", "RUN"], "")
    assert command.data == ("A", "https://host/B")


def test_a_distillation_has_a_teacher_and_a_section_of_its_own(tmp_path: Path) -> None:
    command = parse_command([*FOLDERS, "--teacher", "A", "B", "--distill.layers", "[1, 3, 3, 4]"], "", distils=True)
    assert command.teachers == (Path("A"), Path("B"))
    recipe = command.recipe
    assert recipe.distill is not None and recipe.distill.layers == (1, 3, 3, 4)
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe
    assert fixed(recipe.to_dict())["distill.temperature"] == 2.0
    assert parse().distill is None and "distill" not in parse().to_dict()
    path = tmp_path / "distil.yaml"
    path.write_text("distill: {ce: 1.0}\n")
    told = "section distill is for launcher/distill.py, which has a --teacher"
    assert refusal("--config", str(path)) == f"{path}: {told}"
    assert "section distill is for launcher/distill.py" in refusal("--distill.cos", "1")
    with pytest.raises(ValueError, match="--teacher missing: say what is learnt from"):
        parse_command(FOLDERS, "", distils=True)


def test_a_distillation_that_cannot_be_is_one_error() -> None:
    with pytest.raises(ValueError) as caught:
        distilled("--distill.ce", "-1", "--distill.temperature", "0", "--distill.layers", "[0, 2]")
    message = str(caught.value)
    assert "ce -1.0 is negative" in message and "temperature 0.0 is not positive" in message
    assert "numbered from 1" in message and "\n" not in message
    with pytest.raises(ValueError, match=r"distill\.sop needs model\.pooler true"):
        distilled("--distill.sop", "1", "--model.pooler", "false", "--objective.sop", "0")
    nothing = ("--objective.mlm", "0", "--objective.sop", "0")
    assert "every weight of objective is 0" in refusal(*nothing)
    assert distilled(*nothing).objective.mlm == 0
    with pytest.raises(ValueError, match="every weight of objective and distill is 0"):
        distilled(*nothing, "--distill.ce", "0", "--distill.cos", "0")


def test_auto_becomes_a_precision_for_the_devices_or_the_one_before() -> None:
    auto = distilled("--train.precision=auto", "--distill.precision=auto")
    for bf16, precision in ((True, "bf16"), (False, "fp32")):
        settled = auto.settled(bf16)
        assert settled.distill is not None
        assert (settled.train.precision, settled.distill.precision) == (precision, precision)
        other = {"train": {"precision": "fp32" if bf16 else "bf16"}, "distill": {"precision": precision}}
        assert auto.settled(bf16, other).train.precision == other["train"]["precision"]
        said = distilled("--train.precision=fp32", "--distill.precision=bf16")
        assert said.settled(bf16, other) == said
