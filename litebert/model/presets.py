"""Model shapes by name, with Google's Chinese vocabulary of 21128.

A preset is a shape: dropout is left at 0, for the recipe to set.
"""

from __future__ import annotations

from dataclasses import replace

from litebert.model.encoder import ModelConfig

CHINESE_VOCAB = 21128


def _albert(hidden_size: int, num_layers: int, num_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=CHINESE_VOCAB,
        hidden_size=hidden_size,
        embedding_size=128,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=4 * hidden_size,
        sharing="all",
        activation="gelu_tanh",
    )


_BERT_BASE = ModelConfig(
    vocab_size=CHINESE_VOCAB,
    hidden_size=768,
    embedding_size=768,
    num_layers=12,
    num_heads=12,
    intermediate_size=3072,
)

# bert-base: Devlin et al. 2019. distil-6: DistilBERT, Sanh et al. 2019. albert-base to -xxlarge: Lan et al.
# 2020, table 1, with H / 64 heads. albert-tiny and -small: the shapes of the small Chinese ALBERTs in use.
PRESETS: dict[str, ModelConfig] = {
    "bert-base": _BERT_BASE,
    "distil-6": replace(_BERT_BASE, num_layers=6, token_types=0, pooler=False),
    "albert-tiny": _albert(hidden_size=312, num_layers=4, num_heads=12),
    "albert-small": _albert(hidden_size=384, num_layers=6, num_heads=12),
    "albert-base": _albert(hidden_size=768, num_layers=12, num_heads=12),
    "albert-large": _albert(hidden_size=1024, num_layers=24, num_heads=16),
    "albert-xlarge": _albert(hidden_size=2048, num_layers=24, num_heads=32),
    "albert-xxlarge": _albert(hidden_size=4096, num_layers=12, num_heads=64),
}
