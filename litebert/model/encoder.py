"""The encoder: BERT and ALBERT over unpadded tokens, computing what Hugging Face's models compute.

A layer is an attention block and a feed-forward block, each closed by its own LayerNorm (post-norm). The
encoder owns the distinct blocks; sharing across layers is only which block each layer uses, so a parameter
has one name.

Shape suffixes: T = packed tokens, E = embedding size, H = hidden size, I = intermediate size, N = heads,
D = head dim.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from litebert.model.attention import Packing, attention

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
SHARINGS = ("all", "attention", "ffn", "none")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model. ValueError lists everything that is wrong with it.

    Attributes:
        vocab_size: number of ids.
        hidden_size: width of the layers.
        embedding_size: width of the embeddings; other than hidden_size it is ALBERT's factorisation, projected up.
        num_layers: layers, whether they share weights or not.
        num_heads: attention heads of a layer.
        intermediate_size: width inside a feed-forward block.
        max_positions: tokens of the longest sample.
        token_types: segments that are told apart; 0 leaves token types out, as DistilBERT does, and 1 is everybody's.
        sharing: what the layers have in common: "all", "attention", "ffn" or "none".
        num_groups: with sharing "all", groups of consecutive layers that share.
        activation: of feed-forward blocks and the masked-word head: "gelu", "gelu_tanh" or "relu".
        dropout: of hidden states.
        attention_dropout: of attention weights.
        layer_norm_eps: added to the variance in LayerNorm.
        initializer_range: standard deviation of the initial weights.
        pooler: whether there is a sentence-pair head.
    """

    vocab_size: int
    hidden_size: int
    embedding_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int = 512
    token_types: int = 2
    sharing: str = "none"
    num_groups: int = 1
    activation: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pooler: bool = True

    def __post_init__(self) -> None:
        sizes = [
            "vocab_size",
            "hidden_size",
            "embedding_size",
            "num_layers",
            "num_heads",
            "intermediate_size",
        ]
        sizes += ["max_positions", "num_groups"]
        problems = [f"{name} must be at least 1" for name in sizes if getattr(self, name) < 1]
        problems += [
            f"{name} must be in [0, 1)" for name in ("dropout", "attention_dropout") if not 0 <= getattr(self, name) < 1
        ]
        problems += [
            f"{name} must be above 0" for name in ("layer_norm_eps", "initializer_range") if getattr(self, name) <= 0
        ]
        if self.token_types < 0:
            problems.append("token_types must be 0 (none) or more")
        if self.num_heads > 0 and self.hidden_size % self.num_heads:
            problems.append(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        if self.sharing not in SHARINGS:
            problems.append(f"sharing '{self.sharing}' is none of {', '.join(SHARINGS)}")
        if self.num_groups > 1 and self.sharing != "all":
            problems.append(f"num_groups {self.num_groups} needs sharing 'all', not '{self.sharing}'")
        if self.num_groups > 0 and self.num_layers % self.num_groups:
            problems.append(f"num_layers {self.num_layers} is not a multiple of num_groups {self.num_groups}")
        if self.activation not in ACTIVATIONS:
            problems.append(f"activation '{self.activation}' is none of {', '.join(ACTIVATIONS)}")
        if problems:
            raise ValueError("model config: " + "; ".join(problems))

    @property
    def attention_blocks(self) -> int:
        """How many distinct attention blocks there are."""
        return {"all": self.num_groups, "attention": 1}.get(self.sharing, self.num_layers)

    @property
    def ffn_blocks(self) -> int:
        """How many distinct feed-forward blocks there are."""
        return {"all": self.num_groups, "ffn": 1}.get(self.sharing, self.num_layers)

    @property
    def layers(self) -> list[tuple[int, int]]:
        """For each layer, which attention block and which feed-forward block it uses."""
        return [
            (layer * self.attention_blocks // self.num_layers, layer * self.ffn_blocks // self.num_layers)
            for layer in range(self.num_layers)
        ]


class Embeddings(nn.Module):
    """Word, position and token type, normalised at size E, then projected to H where the two differ."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.embedding_size
        self.word = nn.Embedding(config.vocab_size, size)
        self.position = nn.Embedding(config.max_positions, size)
        self.token_type = nn.Embedding(config.token_types, size) if config.token_types else None
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(size, config.hidden_size) if size != config.hidden_size else None

    def forward(self, ids_T: Tensor, token_types_T: Tensor | None, position_ids_T: Tensor) -> Tensor:
        embedded_TE = self.word(ids_T)
        if self.token_type is not None:
            if token_types_T is None or self.token_type.num_embeddings == 1:
                token_types_T = torch.zeros_like(ids_T)
            embedded_TE = embedded_TE + self.token_type(token_types_T)
        embedded_TE = embedded_TE + self.position(position_ids_T)
        embedded_TE = self.dropout(self.norm(embedded_TE))
        return embedded_TE if self.projection is None else self.projection(embedded_TE)


class SelfAttention(nn.Module):
    """Attention block: [T, H] -> [T, H], residual and LayerNorm included; `qkv` stacks three projections.

    Of the rows alone that are asked for, if any are: all that follows attention goes row by row.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.num_heads = config.num_heads
        self.attention_dropout = config.attention_dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)

    def forward(self, hidden_TH: Tensor, packing: Packing, rows: Tensor | None = None) -> Tensor:
        q_TND, k_TND, v_TND = self.qkv(hidden_TH).unflatten(-1, (3, self.num_heads, -1)).unbind(1)
        dropout_p = self.attention_dropout if self.training else 0.0
        context_TH = attention(q_TND, k_TND, v_TND, packing, dropout_p).flatten(1)
        if rows is not None:
            hidden_TH, context_TH = hidden_TH.index_select(0, rows), context_TH.index_select(0, rows)
        return self.norm(hidden_TH + self.dropout(self.out(context_TH)))


class FeedForward(nn.Module):
    """Feed-forward block: [T, H] -> [T, I] -> [T, H], residual and LayerNorm included."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.activation]
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_TH: Tensor) -> Tensor:
        return self.norm(hidden_TH + self.dropout(self.down(self.activation(self.up(hidden_TH)))))


class Encoder(nn.Module):
    """Ids [T] become hidden states [T, H]. Parameters are drawn from torch's global generator.

    With `recompute` set, training keeps only what enters each layer, and computes the rest again for the backward
    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.embeddings = Embeddings(config)
        self.attention = nn.ModuleList(SelfAttention(config) for _ in range(config.attention_blocks))
        self.ffn = nn.ModuleList(FeedForward(config) for _ in range(config.ffn_blocks))
        initialize(self, config.initializer_range)

    def forward(
        self, ids_T: Tensor, token_types_T: Tensor | None, packing: Packing, rows: Tensor | None = None
    ) -> Tensor:
        """The last layer's hidden states, [T, H], or those of some rows: int64 indices into T, each once.

        ValueError if a sample has more tokens than positions.
        """
        return deque(self.hidden_states(ids_T, token_types_T, packing, rows), maxlen=1).pop()

    def hidden_states(
        self, ids_T: Tensor, token_types_T: Tensor | None, packing: Packing, rows: Tensor | None = None
    ) -> Iterator[Tensor]:
        """What enters the first layer, then what each layer gives: 1 + num_layers tensors [T, H].

        The last of some rows alone, if they are given: nobody attends to it, and the rest is left out.
        """
        if packing.max_length > self.config.max_positions:
            raise ValueError(
                f"encoder: a sample of {packing.max_length} tokens in a model of max_positions "
                f"{self.config.max_positions}: shorten the samples or raise max_positions"
            )
        hidden_TH = self.embeddings(ids_T, token_types_T, packing.position_ids)
        yield hidden_TH
        layer: Callable[..., Tensor] = self._layer
        if self.recompute and self.training:
            # Without its check of what was saved: at ZeRO-3 a weight is saved gathered, and compared as it lies.
            layer = partial(checkpoint, self._layer, use_reentrant=False, determinism_check="none")
        *before, last = self.config.layers
        for blocks in before:
            hidden_TH = layer(*blocks, hidden_TH, packing)
            yield hidden_TH
        yield layer(*last, hidden_TH, packing, rows)

    def _layer(
        self, attention_block: int, ffn_block: int, hidden_TH: Tensor, packing: Packing, rows: Tensor | None = None
    ) -> Tensor:
        return self.ffn[ffn_block](self.attention[attention_block](hidden_TH, packing, rows))


def initialize(module: nn.Module, std: float) -> None:
    """Draw weights from normal(0, std) and clear biases, as BERT does; LayerNorms are born 1 and 0."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
