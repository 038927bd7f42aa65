"""What losses read of a forward pass, of teacher and student alike; nothing else is computed.

Shape suffixes: T = packed tokens, B = samples, M = masked positions, R = M or T, H = hidden size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from litebert.data.batch import MicroBatch
from litebert.distill.config import DistillConfig
from litebert.model.encoder import SelfAttention
from litebert.model.heads import PretrainingModel


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be read.

    Attributes:
        words_everywhere: whether words are predicted at all places, not only at masked ones.
        layers: of which hidden states are compared, numbered from 1.
        hidden_everywhere: whether they are compared at all places.
        pairs: whether the pair head is asked.
        relations: whether the last layer's queries, keys and values are compared.
    """

    words_everywhere: bool = False
    layers: tuple[int, ...] = ()
    hidden_everywhere: bool = False
    pairs: bool = False
    relations: bool = False

    @classmethod
    def of(cls, config: DistillConfig, layers: Sequence[int], pairs: bool) -> Wanted:
        """What a recipe's losses read of one side: of these layers, and of the pair head or not."""
        return cls(config.ce_at == "all", tuple(layers), config.hidden_at == "all", pairs, config.relation > 0)


@dataclasses.dataclass(frozen=True)
class States:
    """What was read.

    Attributes:
        words_RH: the last layer's hidden states where words are predicted.
        hidden_RH: by layer, hidden states where they are compared.
        first_BH: the last layer's, of the first token of each sample; None where the pair head is not asked.
        qkv_TH: queries, keys and values of the last layer's attention, each [T, H], all heads end to end; None where
            not wanted.
    """

    words_RH: Tensor
    hidden_RH: Mapping[int, Tensor]
    first_BH: Tensor | None
    qkv_TH: tuple[Tensor, ...] | None


def states(model: PretrainingModel, batch: MicroBatch, wanted: Wanted) -> States:
    """One forward pass of the encoder; its last layer for the rows alone that are read."""
    encoder, last = model.encoder, model.config.num_layers
    samples = len(batch.packing.lengths) if wanted.pairs else 0
    everywhere = wanted.words_everywhere or (wanted.hidden_everywhere and last in wanted.layers)
    rows = None if everywhere else torch.cat([batch.packing.first[:samples], batch.masked])
    hidden: dict[int, Tensor] = {}
    qkv_TH: tuple[Tensor, ...] | None = None
    for layer, hidden_TH in enumerate(encoder.hidden_states(batch.ids, batch.token_types, batch.packing, rows)):
        if layer < last and layer in wanted.layers:
            hidden[layer] = hidden_TH if wanted.hidden_everywhere else hidden_TH.index_select(0, batch.masked)
        if layer == last - 1 and wanted.relations:
            qkv_TH = _qkv(model, hidden_TH)
    if rows is None:
        first_BH, masked_MH = (
            hidden_TH.index_select(0, index) for index in (batch.packing.first[:samples], batch.masked)
        )
    else:
        first_BH, masked_MH = hidden_TH.tensor_split([samples])
    if last in wanted.layers:
        hidden[last] = hidden_TH if wanted.hidden_everywhere else masked_MH
    words_RH = hidden_TH if wanted.words_everywhere else masked_MH
    return States(words_RH, hidden, first_BH if wanted.pairs else None, qkv_TH)


def _qkv(model: PretrainingModel, hidden_TH: Tensor) -> tuple[Tensor, ...]:
    """Of what enters the last layer, which projects it once more: recomputation would lose what a hook sees."""
    attention_block, _ = model.config.layers[-1]
    block = model.encoder.attention[attention_block]
    assert isinstance(block, SelfAttention)
    return block.qkv(hidden_TH).chunk(3, dim=-1)
