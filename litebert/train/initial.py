"""What a run begins with, before its first step."""

from __future__ import annotations

import torch

from litebert.data.corpus import Corpus
from litebert.data.split import Split
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel
from litebert.recipe import Recipe


def initial_model(recipe: Recipe, data: Corpus | Split) -> PretrainingModel:
    """The recipe's model for the vocabulary of the data: a pure function of the two, equal on all ranks."""
    torch.manual_seed(recipe.train.seed)
    model = PretrainingModel(recipe.model_config(data.vocab_size))
    model.encoder.recompute = recipe.train.recompute
    with torch.no_grad():
        if recipe.train.output_bias == "unigram":
            model.mlm.bias.copy_(torch.from_numpy(data.unigram_log_probabilities))
        if recipe.train.positions == "sinusoidal":
            model.encoder.embeddings.position.weight.copy_(sinusoids(model.config))
    return model


def sinusoids(config: ModelConfig) -> torch.Tensor:
    """Position embeddings in which near places look alike, [max_positions, E]: the sines and cosines of Vaswani et
    al. 2017, section 3.5, at the standard deviation of all other weights. They are trained on like any others."""
    places = torch.arange(config.max_positions, dtype=torch.float64)[:, None]
    rates = 10000.0 ** (-torch.arange(0, config.embedding_size, 2, dtype=torch.float64) / config.embedding_size)
    waves = torch.stack([(places * rates).sin(), (places * rates).cos()], dim=2).flatten(1)
    return (waves[:, : config.embedding_size] * 2**0.5 * config.initializer_range).float()
