"""DeepSpeed's JSON: whose each key is, and that DeepSpeed takes what is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from litebert.train.config import TrainConfig
from litebert.train.ds_config import complete, read_ds_config, stage_of
from litebert.train.optimizers import OptimizerConfig

REPOSITORY = Path(__file__).parents[3]


def written(folder: Path, content: object) -> Path:
    path = folder / "engine.json"
    path.write_text(json.dumps(content))
    return path


SHIPPED = sorted((REPOSITORY / "ds_configs").glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_ones_are_sound(path: Path) -> None:
    config = read_ds_config(path, "fp32")
    assert f"zero{stage_of(config)}" == path.stem.removesuffix("_offload")
    assert ("offload_optimizer" in config["zero_optimization"]) == path.stem.endswith("_offload")


def test_the_default_is_shipped() -> None:
    assert (REPOSITORY / TrainConfig().ds_config).is_file()


def test_every_key_of_the_recipe_is_named_with_the_file_and_the_fix(tmp_path: Path) -> None:
    content = {"train_batch_size": 8, "optimizer": {"type": "Adam", "params": {"lr": 1}}, "zero_optimisation": {}}
    path = written(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read_ds_config(path, "fp32")
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert "train_batch_size belongs to the recipe: remove it here and set data.global_batch there" in message
    assert "optimizer belongs to the recipe" in message
    assert "zero_optimisation is not a key" in message


def test_auto_leaves_it_to_the_recipe(tmp_path: Path) -> None:
    path = written(tmp_path, {"train_batch_size": "auto", "zero_optimization": {"stage": 2}})
    assert read_ds_config(path, "bf16") == {"zero_optimization": {"stage": 2}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"zero_optimization": {"stage": 7}}, "zero_optimization.stage: "),
        ({"zero_optimization": {"overlap": True}}, "zero_optimization.overlap: "),
        ({"zero_optimization": 1}, "zero_optimization: "),
        (
            {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/tmp"}}},
            "zero_optimization.offload_optimizer.device nvme",
        ),
        (
            {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}},
            "zero_optimization.offload_optimizer.ratio 0.5",
        ),
        ([1], "no object"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read_ds_config(path, "bf16")
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_stage_0_cannot_do_bf16(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use stage 1, 2 or 3"):
        read_ds_config(written(tmp_path, {}), "bf16")


def test_deepspeed_gets_the_recipes_numbers() -> None:
    whole = complete({"zero_optimization": {"stage": 1}}, OptimizerConfig(clip_norm=0.5), "bf16")
    assert whole["gradient_clipping"] == 0.5
    assert whole["bf16"] == {"enabled": True, "check_grad_overflow": True}
    assert whole["data_types"] == {"grad_accum_dtype": "fp32"}
