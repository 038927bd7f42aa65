"""The model of a run, as a checkpoint has it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import TextTokenizer
from litebert.model.heads import PretrainingModel
from litebert.recipe import Recipe
from litebert.train.checkpoint import latest, read, read_weights, verify


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model with what belongs to it.

    Attributes:
        model: fp32, on the CPU, in evaluation mode.
        tokenizer: that its ids are of.
        step: optimizer steps it was trained for.
        recipe: how.
        data_fingerprint: of the shards it was trained on.
        run: folder of the run.
    """

    model: PretrainingModel
    tokenizer: TextTokenizer
    step: int
    recipe: Recipe
    data_fingerprint: str
    run: Path


def load_trained(folder: Path) -> Trained:
    """Load a run's newest checkpoint, or one of its checkpoints.

    Raises ValueError where the folder is neither, or holds none that is whole.
    """
    run, checkpoint = folder, None
    if (folder / "checkpoint.json").is_file():
        run, checkpoint = folder.resolve().parents[1], read(folder)
        verify(checkpoint)
    if not (run / "run.json").is_file():
        raise ValueError(
            f"{run}: not a run folder (no run.json); train one: deepspeed launcher/pretrain.py --run {run}"
        )
    checkpoint = checkpoint or latest(run)
    if checkpoint is None:
        raise ValueError(f"{run}: no whole checkpoint in it yet; let it train until it has saved one")
    tokenizer = load_tokenizer(run / "tokenizer")
    expected = checkpoint.info["fingerprints"]["tokenizer"]
    if tokenizer.fingerprint != expected:
        raise ValueError(
            f"{run}: tokenizer/ is {tokenizer.fingerprint[:12]}, its checkpoint was made with {expected[:12]}"
        )
    recipe = Recipe.from_dict(checkpoint.info["recipe"])
    model = PretrainingModel(recipe.model_config(tokenizer.vocab_size))
    model.load_state_dict(read_weights(checkpoint.folder))
    data_fingerprint = checkpoint.info["fingerprints"]["data"]
    return Trained(model.eval(), tokenizer, checkpoint.step, recipe, data_fingerprint, run)
