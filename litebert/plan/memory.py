"""What a device's memory holds in the middle of a step, by ZeRO stage."""

from __future__ import annotations

import dataclasses
from typing import Any

from litebert.model.cross_entropy import CHUNK
from litebert.model.encoder import ModelConfig
from litebert.plan.work import Work, parameters
from litebert.train.ds_config import stage_of

MASTER, MOMENTS, ACCUMULATED = 4, 8, 4  # bytes for each parameter, whatever the precision


@dataclasses.dataclass(frozen=True)
class Amount:
    """Bytes, or seconds, or whatever the table it is in counts; and the arithmetic that they come from."""

    value: float
    how: str


def width_of(precision: str) -> int:
    """Bytes of a number."""
    return 2 if precision == "bf16" else 4


def state(count: int, stage: int, precision: str, ranks: int) -> dict[str, Amount]:
    """Weights, gradients and optimizer state of a rank (Rajbhandari et al. 2020), as DeepSpeed 0.19 keeps them.

    fp32 gradients are accumulated beside the ones of the weights' own type only in bf16: whole at stage 1, cut up at
    2 and 3. Stage 0 has no master weights beside its weights, which are fp32.
    """
    width, bf16 = width_of(precision), precision == "bf16"
    cuts = {
        "weights": (width, stage >= 3, True),
        "gradients": (width, stage >= 2, True),
        "accumulated gradients": (ACCUMULATED, stage >= 2, bf16),
        "fp32 master weights": (MASTER, stage >= 1, stage >= 1),
        "optimizer moments": (MOMENTS, stage >= 1, True),
    }
    return {
        name: Amount(
            count * size / (ranks if cut else 1),
            f"{count:,} x {size} B" + (f" / {ranks} ranks" if cut and ranks > 1 else ""),
        )
        for name, (size, cut, exists) in cuts.items()
        if exists
    }


def activations(
    config: ModelConfig, work: Work, precision: str, on_cpu: bool, recompute: bool = False
) -> dict[str, Amount]:
    """What a micro-batch's forward keeps for its backward.

    Of a layer, for each token: the attention block's input H, q, k and v 3H, their context 2H (the kernel's, and joined
    over runs of samples), what enters the norm H; the feed-forward block's input H, I before and after the activation,
    what enters the norm H. Two norms keep a mean and a deviation each. Dropout keeps a mask of its 2H outputs: a byte
    each, on a CPU a number. Fused attention keeps a number for each head and token; on a CPU in bf16 it is not fused,
    and keeps its weights [L, L] for each head and sample in place of the kernel's context.

    Args:
        work: of the micro-batch.
        on_cpu: whether it is a CPU that computes.
        recompute: whether only what enters each layer is kept, and the rest is computed again, a layer at a time.
    """
    width, hidden, tokens = width_of(precision), config.hidden_size, work.tokens
    fused_attention = not (on_cpu and precision == "bf16")
    row = ((9 if fused_attention else 8) * hidden + 2 * config.intermediate_size) * width + 2 * 2 * 4
    row += 4 * config.num_heads if fused_attention else 0
    if config.dropout:
        row += 2 * hidden * (width if on_cpu else 1)
    whole, kept = config.num_layers, {}
    if recompute:
        entering = hidden * width
        whole, row = 1, row - entering
        kept["inputs of layers"] = Amount(
            config.num_layers * tokens * entering,
            f"{config.num_layers} layers x {tokens:,.0f} tokens x {entering} B",
        )
    kept["activations"] = Amount(whole * tokens * row, f"{whole} layers x {tokens:,.0f} tokens x {row} B")
    if not fused_attention:
        matrices = config.num_heads * work.squares * width
        kept["attention weights"] = Amount(
            whole * matrices,
            f"{whole} layers x {config.num_heads} heads x {work.squares:,.0f} x {width} B",
        )
    return kept


def logits(config: ModelConfig, work: Work, precision: str) -> Amount:
    """Of the masked-word head, at its peak in the backward: the logits, their log-softmax and two gradients in fp32."""
    size = width_of(precision) + 3 * 4
    rows = min(work.masked, CHUNK // config.vocab_size)
    return Amount(
        rows * config.vocab_size * size, f"{rows:,.0f} masked at a time x {config.vocab_size:,} words x {size} B"
    )


def kept_whole(count: int, ds_config: dict[str, Any]) -> int:
    """Of so many weights, those that stage 3 keeps gathered from a micro-batch's forward to its backward.

    DeepSpeed cuts a weight up again only where ``stage3_max_reuse_distance`` others are used before it is needed next:
    of layers that are not shared, the ones that come earlier than half of that before the end of the forward.
    """
    distance = float(ds_config.get("zero_optimization", {}).get("stage3_max_reuse_distance", 1e9))
    return min(count, int(distance / 2))


def buffers(ds_config: dict[str, Any], count: int, precision: str) -> Amount:
    """Gradients on their way: two buckets, one filled while the other is sent; and at stage 3 weights put together."""
    zero = ds_config.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    numbers = min(int(zero.get("reduce_bucket_size", 5e8)), count) * (2 if stage >= 2 else 1)
    if stage == 3:
        gathered = max(int(zero.get("stage3_prefetch_bucket_size", 5e7)), kept_whole(count, ds_config))
        numbers += min(gathered, count)
    return Amount(numbers * width_of(precision), f"{numbers:,} numbers in buckets x {width_of(precision)} B")


def of_rank(
    config: ModelConfig,
    micro_batch: Work,
    ds_config: dict[str, Any],
    precision: str,
    ranks: int,
    on_cpu: bool,
    recompute: bool = False,
) -> dict[str, Amount]:
    """All that a rank holds of its device's memory, but what the libraries take for themselves."""
    count = sum(parameters(config).values())
    return {
        **state(count, stage_of(ds_config), precision, ranks),
        **activations(config, micro_batch, precision, on_cpu, recompute),
        "logits of masked words": logits(config, micro_batch, precision),
        "communication buffers": buffers(ds_config, count, precision),
    }
