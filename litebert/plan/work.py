"""How much there is to compute: the sizes of a batch, the numbers of a model, the operations of a step.

Shape suffixes as in the model: T = tokens, B = samples, M = masked positions, E = embedding size, H = hidden size,
I = intermediate size, V = vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch

from litebert.data.batch import MicroBatch, Step
from litebert.data.corpus import Corpus
from litebert.data.mixture import Mixture
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel

MASK_RATE = 0.15  # of tokens, where there are no data to count in
IN_LAYERS = ("attention projections", "attention", "feed-forward")  # operations that train.recompute does again


@dataclasses.dataclass(frozen=True)
class Work:
    """The sizes of a batch.

    Attributes:
        samples, tokens, masked: how many.
        squares: the sum of the squares of the samples' lengths, which attention goes by.
    """

    samples: float
    tokens: float
    masked: float
    squares: float

    def times(self, share: float) -> Work:
        """A part of it, or a multiple."""
        return Work(*(value * share for value in dataclasses.astuple(self)))

    def __add__(self, other: Work) -> Work:
        return Work(*map(sum, zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    @classmethod
    def of_batch(cls, batch: MicroBatch) -> Work:
        """Of a micro-batch."""
        lengths = batch.packing.lengths
        return cls(len(lengths), int(lengths.sum()), len(batch.masked), int((lengths**2).sum()))

    @classmethod
    def of_step(cls, step: Step) -> Work:
        """Of one rank's part of a step."""
        return sum(map(cls.of_batch, step.micro_batches), cls(0, 0, 0, 0))

    @classmethod
    def full(cls, samples: int, length: int) -> Work:
        """Of samples that are all as long as they may be: what is planned for where there are no data."""
        tokens = samples * length
        return cls(samples, tokens, tokens * MASK_RATE, tokens * length)


def work_of(corpus: Corpus, mixture: dict[int, list[float]], batch: int, steps: int) -> Work:
    """The mean step of a run on a corpus, counted over the samples of each folder."""
    taken = Mixture([split.samples for split in corpus.splits], mixture, batch).taken(steps) / steps
    total = Work(0, 0, 0, 0)
    for split, samples in zip(corpus.splits, taken.tolist(), strict=True):
        lengths = np.asarray(split.lengths, np.int64)
        masked = float(np.mean([np.asarray(counts, np.int64).sum() for counts in split.counts]))
        total += Work(split.samples, int(lengths.sum()), masked, int((lengths**2).sum())).times(samples / split.samples)
    return total


@functools.cache
def parameters(config: ModelConfig) -> dict[str, int]:
    """How many numbers are trained, by part; counted on a model without memory."""
    with torch.device("meta"):
        model = PretrainingModel(config)
    parts: Sequence[tuple[str, torch.nn.Module | None]] = (
        ("embeddings", model.encoder.embeddings),
        ("attention", model.encoder.attention),
        ("feed-forward", model.encoder.ffn),
        ("masked-word head", model.mlm),
        ("pair head", model.pair),
    )
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts if part is not None}


def operations(config: ModelConfig, work: Work) -> dict[str, float]:
    """Floating-point operations of a step's matrix products, forward and backward, by part; nothing is padding.

    A product of [a, b] and [b, c] is 2abc forward, and twice that backward. What follows attention in the last layer
    is computed for the rows that are read: masked positions, and the first of each sample where there is a pair head.
    """
    hidden, embedding = config.hidden_size, config.embedding_size
    before, read = config.num_layers - 1, work.masked + work.samples * config.pooler
    forward = {
        "attention projections": 2 * (work.tokens * (4 * before + 3) + read) * hidden**2,
        "attention": 2 * work.squares * config.num_layers * 2 * hidden,
        "feed-forward": 2 * (work.tokens * before + read) * 2 * hidden * config.intermediate_size,
        "masked-word head": 2 * work.masked * embedding * (hidden + config.vocab_size),
    }
    if embedding != hidden:
        forward["embedding projection"] = 2 * work.tokens * embedding * hidden
    if config.pooler:
        forward["pair head"] = 2 * work.samples * hidden * (hidden + 2)
    return {name: 3 * count for name, count in forward.items()}


def computed_again(config: ModelConfig, work: Work) -> float:
    """Operations of the layers' second forward, where ``train.recompute`` is set."""
    counts = operations(config, work)
    return sum(counts[name] for name in IN_LAYERS) / 3
