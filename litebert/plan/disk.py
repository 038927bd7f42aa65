"""What a run takes on disk."""

from __future__ import annotations

from litebert.model.encoder import ModelConfig
from litebert.plan.memory import Amount
from litebert.train.config import TrainConfig

KEPT = 12  # bytes for each parameter of a checkpoint: fp32 weights and two moments
TOP = 64  # words of a topk soft target
BYTES_PER_TOKEN = 3.3  # of a shard, measured on 710,000 samples of 99 tokens in the mean, with one masked copy


def shards(tokens: float) -> Amount:
    """Of training text, with one masked copy."""
    return Amount(tokens * BYTES_PER_TOKEN, f"{tokens:,.0f} tokens x {BYTES_PER_TOKEN:.1f} B")


def checkpoints(parameters: int, train: TrainConfig) -> Amount:
    """At the most: those that stay, and the one that is being written."""
    count = train.keep_last + 1 + (train.steps // train.keep_every if train.keep_every else 0)
    count = min(count, -(-train.steps // train.checkpoint_every))
    return Amount(count * parameters * KEPT, f"{count} x {parameters:,} x {KEPT} B")


def soft_targets(teacher: ModelConfig, masked: float) -> dict[str, Amount]:
    """Of this model's answers to masked words, kept for a student, by codec."""
    sizes = {
        "hidden": 2 * teacher.hidden_size,
        "head": 2 * teacher.embedding_size,
        f"topk {TOP}": TOP * (2 + 2) + 2,
    }
    return {name: Amount(masked * size, f"{masked:,.0f} masked x {size} B") for name, size in sizes.items()}
