"""What of a step's sending could go on behind its computing, kind by kind and stage by stage."""

from __future__ import annotations

from typing import Any

from litebert.model.encoder import ModelConfig
from litebert.plan import network, time
from litebert.plan.memory import Amount
from litebert.plan.network import Cluster
from litebert.plan.work import parameters
from litebert.train.ds_config import stage_of

BACKWARD, FORWARD = "backward", "forward"
BEHIND = {"gradients": BACKWARD, "weights": FORWARD, "weights, again": BACKWARD}  # the pass they are sent behind


def hidden(
    model: ModelConfig,
    ds_config: dict[str, Any],
    precision: str,
    micro: int,
    sent: dict[str, Amount],
    times: dict[str, Amount],
    cluster: Cluster,
    recompute: bool = False,
) -> dict[str, Amount]:
    """Seconds of the sending that could hide, at the most, of each kind of bytes that are sent.

    Read from DeepSpeed 0.19. Gradients can be reduced behind the pass that they come from, by whole buckets, where
    hooks reduce them and ``overlap_comm`` is set: of every micro-batch at stages 2 and 3, of the last at stage 1 in
    fp32. New weights come after the update of stages 1 and 2, when there is nothing to compute; stage 3 fetches all but
    the first bucket of them behind a pass.

    Args:
        micro: micro-batches of a rank in a step.
        sent: bytes of a rank in a step, by kind.
        times: seconds of the step's computing.
        recompute: whether layers are computed again for the backward.
    """
    stage = stage_of(ds_config)
    count = sum(parameters(model).values())
    counts = network.collectives(count, ds_config, precision, micro)
    forward, backward = time.forward_and_backward(times, micro, recompute)
    left = {BACKWARD: backward, FORWARD: forward}
    sendings = micro if stage >= 2 else 1
    found = {}
    for kind, seconds in network.seconds_each(sent, counts, cluster).items():
        if never := _never(kind, ds_config, precision):
            found[kind] = Amount(0, never)
            continue
        sending, buckets, behind = seconds / sendings, counts[kind] // sendings, BEHIND[kind]
        early = buckets - 1
        if kind == "gradients":
            early = int(early_gradients(model) / network.bucket_of(ds_config, precision))
        most = min(early / buckets * sending, left[behind])
        how = f"{early} of {buckets} buckets x {sending * 1e3:,.3f} ms, {left[behind] * 1e3:,.3f} ms of {behind}"
        found[kind] = Amount(sendings * most, f"{sendings} x min({how})")
        left[behind] -= most
    return found


def _never(kind: str, ds_config: dict[str, Any], precision: str) -> str:
    """Why sending of a kind cannot hide; nothing where it can."""
    stage = stage_of(ds_config)
    if kind == "gradients" and network.after_backward(stage, precision):
        return "reduced when the last backward is over"
    if kind != "gradients" and stage < 3:
        return "gathered when the update is over"
    overlaps = ds_config.get("zero_optimization", {}).get("overlap_comm", stage == 3)
    return "" if overlaps else "zero_optimization.overlap_comm is not set"


def early_gradients(model: ModelConfig) -> float:
    """Numbers of gradients that are whole while a backward pass goes on.

    Of the heads, and of layers: a block's when the first layer that uses it is done, so all that one block for all
    layers has come last, with the embeddings, which the masked-word head uses too.
    """
    sizes = parameters(model)
    attention, ffn = 1 - 1 / model.attention_blocks, 1 - 1 / model.ffn_blocks
    heads = sum(size for name, size in sizes.items() if name.endswith("head"))
    return heads + attention * sizes["attention"] + ffn * sizes["feed-forward"]
