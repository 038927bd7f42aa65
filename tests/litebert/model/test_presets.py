"""Parameter counts: exactly those of Hugging Face's models, and those the papers print."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForPreTraining

from litebert.model import PRESETS, ModelConfig, PretrainingModel
from litebert.model.huggingface import to_huggingface

ALBERT_BASE = replace(PRESETS["albert-base"], vocab_size=30000)

# Lan et al. 2020, tables 1 and 4, in millions: encoder and pooler at a vocabulary of 30000, without the
# masked-word head. Their 235 for xxlarge is not in the list: the shape they describe, and the weights they
# released, have 223.
PAPER = {
    "bert-base": (replace(PRESETS["bert-base"], vocab_size=30000), 108),
    "albert-base": (ALBERT_BASE, 12),
    "albert-large": (replace(PRESETS["albert-large"], vocab_size=30000), 18),
    "albert-xlarge": (replace(PRESETS["albert-xlarge"], vocab_size=30000), 60),
    "shared attention": (replace(ALBERT_BASE, sharing="attention"), 64),
    "shared ffn": (replace(ALBERT_BASE, sharing="ffn"), 38),
    "nothing shared": (replace(ALBERT_BASE, sharing="none"), 89),
    "all shared, E = 768": (replace(ALBERT_BASE, embedding_size=768), 31),
}


def on_meta(config: ModelConfig) -> PretrainingModel:
    with torch.device("meta"):
        return PretrainingModel(config)


@pytest.mark.parametrize("name", PAPER)
def test_counts_are_the_papers(name: str) -> None:
    config, millions = PAPER[name]
    model = on_meta(config)
    assert model.pair is not None
    parts = (model.encoder, model.pair.pooler)
    count = sum(parameter.numel() for part in parts for parameter in part.parameters())
    # The paper rounds loosely (our 58.7 is its 60), yet no two of its models are this close.
    assert count / 1e6 == pytest.approx(millions, rel=0.03)


def test_distil_6_is_distilbert() -> None:
    """Sanh et al. 2019, table 3: 66 M at BERT's English vocabulary, without the masked-word head."""
    encoder = on_meta(replace(PRESETS["distil-6"], vocab_size=30522)).encoder
    assert round(sum(parameter.numel() for parameter in encoder.parameters()) / 1e6) == 66


@pytest.mark.parametrize("name", PRESETS)
def test_counts_are_hugging_faces(name: str) -> None:
    model = on_meta(replace(PRESETS[name], num_layers=2))
    described, _ = to_huggingface(model, pad_id=0, cls_id=2, sep_id=3)
    config = AutoConfig.for_model(**described)
    auto = AutoModelForPreTraining if model.config.pooler else AutoModelForMaskedLM
    with torch.device("meta"):
        theirs = auto.from_config(config)
    theirs.tie_weights()
    assert model.parameter_count() == theirs.num_parameters()


def test_xxlarge_has_the_released_size() -> None:
    assert on_meta(replace(PRESETS["albert-xxlarge"], vocab_size=30000)).parameter_count() // 10**6 == 223
