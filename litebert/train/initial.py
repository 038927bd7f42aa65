"""What a run begins with, before its first step."""

from __future__ import annotations

import torch

from litebert.data.split import Split
from litebert.model.heads import PretrainingModel
from litebert.recipe import Recipe


def initial_model(recipe: Recipe, split: Split) -> PretrainingModel:
    """The recipe's model for the vocabulary of the data: a pure function of the two, equal on all ranks."""
    torch.manual_seed(recipe.train.seed)
    model = PretrainingModel(recipe.model_config(split.vocab_size))
    if recipe.train.output_bias == "unigram":
        with torch.no_grad():
            model.mlm.bias.copy_(torch.from_numpy(split.unigram_log_probabilities))
    return model
