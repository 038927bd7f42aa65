"""What stands on the encoder in pretraining: the masked-word head and the sentence-pair head.

Shape suffixes: T = packed tokens, B = samples, M = masked positions, E = embedding size, H = hidden size,
V = vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from litebert.model.attention import Packing
from litebert.model.cross_entropy import linear_cross_entropy
from litebert.model.encoder import ACTIVATIONS, Encoder, ModelConfig, initialize


class MLMHead(nn.Module):
    """Scores of every word, for the rows given. The decoder is the encoder's word embedding, handed in."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        initialize(self, config.initializer_range)

    def forward(
        self, hidden_MH: Tensor, word_VE: Tensor, labels_M: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [M, V]; or, of labels, what `linear_cross_entropy` says: the loss and how many are right."""
        if labels_M is None:
            return F.linear(self.transform(hidden_MH), word_VE, self.bias)
        return linear_cross_entropy(self.transform(hidden_MH), word_VE, self.bias, labels_M)

    def transform(self, hidden_MH: Tensor) -> Tensor:
        """What enters the decoder, [M, E]."""
        return self.norm(self.activation(self.dense(hidden_MH)))


class PairHead(nn.Module):
    """SOP or NSP: whether the two segments stand in order (0) or not (1), read from the [CLS] rows."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, 2)
        initialize(self, config.initializer_range)

    def forward(self, first_BH: Tensor) -> Tensor:
        """Logits [B, 2]."""
        return self.classifier(torch.tanh(self.pooler(first_BH)))


class Output(NamedTuple):
    """Hidden states [T, H], masked-word logits [M, V], and pair logits [B, 2], or None without a pooler."""

    hidden_TH: Tensor
    mlm_logits_MV: Tensor
    pair_logits_B2: Tensor | None


class Scored(NamedTuple):
    """The masked words' loss, summed, in nats, and how many are right; pair logits [B, 2], or None without a pooler."""

    mlm_loss: Tensor
    mlm_right: Tensor
    pair_logits_B2: Tensor | None


class PretrainingModel(nn.Module):
    """Encoder and heads. Parameters are drawn from torch's global generator; each has exactly one name."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.mlm = MLMHead(config)
        self.pair = PairHead(config) if config.pooler else None

    def forward(
        self,
        ids_T: Tensor,
        token_types_T: Tensor | None,
        packing: Packing,
        masked_M: Tensor,
        labels_M: Tensor | None = None,
    ) -> Output | Scored:
        """`Output`, or `Scored` where labels are given.

        Args:
            masked_M: int64 indices into T of the rows that the masked-word head is wanted for.
            labels_M: int64, the words that stood there.
        """
        # Read through its module, and in a forward, so that ZeRO-3 gathers it again for the decoder.
        words = self.encoder.embeddings.word
        if labels_M is None:
            hidden_TH = self.encoder(ids_T, token_types_T, packing)
            mlm_logits_MV = self.mlm(hidden_TH.index_select(0, masked_M), words.weight)
            pair_logits_B2 = self.pair(hidden_TH.index_select(0, packing.first)) if self.pair is not None else None
            return Output(hidden_TH, mlm_logits_MV, pair_logits_B2)
        samples = len(packing.lengths) if self.pair is not None else 0
        rows = torch.cat([packing.first[:samples], masked_M])
        first_BH, hidden_MH = self.encoder(ids_T, token_types_T, packing, rows).tensor_split([samples])
        mlm_loss, mlm_right = self.mlm(hidden_MH, words.weight, labels_M)
        return Scored(mlm_loss, mlm_right, self.pair(first_BH) if self.pair is not None else None)

    def parameter_count(self) -> int:
        """How many numbers are trained; what layers share counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
