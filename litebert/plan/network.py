"""What a rank sends in a step, by ZeRO stage, and how long that takes on the links that there are."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from litebert.plan.devices import Device
from litebert.plan.memory import Amount, kept_whole, width_of
from litebert.train.ds_config import stage_of

LINK_HOP, NETWORK_HOP = 2e-6, 10e-6  # seconds from a device to another of its node, and to one of another node
GROUPS = 2  # of parameters: matrices, which decay, and vectors
ENGINE_BUCKET = 500_000_000  # numbers that DeepSpeed's engine reduces at once, whatever the configuration says
DEFAULTS = {"reduce_bucket_size": 500_000_000, "stage3_prefetch_bucket_size": 50_000_000}  # DeepSpeed's


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What a run is to have: nodes, devices of each, and their kind."""

    nodes: int
    per_node: int
    device: Device

    @property
    def ranks(self) -> int:
        """How many devices."""
        return self.nodes * self.per_node

    @property
    def speed(self) -> float:
        """Bytes that a rank sends in a second, in a collective of all.

        NCCL lays as many rings as a node has network cards, here one a device, and each carries its part of the bytes
        through a card of every node once: a node's cards together are what the ring inside a node is slowed to.
        """
        inside, outside = self.device.link, self.per_node * self.device.network
        return inside if self.nodes == 1 else outside if self.per_node == 1 else min(inside, outside)

    @property
    def latency(self) -> float:
        """Seconds of a collective of no bytes: up and down a tree inside the nodes, and one between them."""
        depths = math.ceil(math.log2(self.per_node)), math.ceil(math.log2(self.nodes))
        return 2 * (depths[0] * LINK_HOP + depths[1] * NETWORK_HOP)


def sent(parameters: int, ds_config: dict[str, Any], precision: str, ranks: int, micro: int) -> dict[str, Amount]:
    """Bytes that a rank sends in a step, with rings, where a collective of n bytes sends n (ranks - 1) / ranks.

    An all-reduce is two of them. Rajbhandari et al. 2020, section 7, count two times the parameters at stages 0 to 2
    and three times at stage 3, each micro-batch being a step. DeepSpeed 0.19 sends otherwise, where nothing but sizes
    of buckets, ``overlap_comm`` and ``stage3_max_reuse_distance`` is set:

    - Stages 0 and 1 all-reduce the gradients of a step once, in the weights' type, also those accumulated in fp32.
      Stage 2 does not scatter what it reduces, but all-reduces each micro-batch's
      (``use_multi_rank_bucket_allreduce``); stage 3 scatters each micro-batch's.
    - Stages 1 and 2 gather the new weights once a step. Stage 3 gathers for each micro-batch's forward, and for its
      backward only what it did not keep. Weights up to ``stage3_param_persistence_threshold``, about a hundredth of a
      model, it gathers once a step; they are taken for the others here.

    tests/distributed/test_sent.py counts what trainings send.

    Args:
        micro: micro-batches of a rank in a step.
    """
    stage, width = stage_of(ds_config), width_of(precision)
    again = parameters - kept_whole(parameters, ds_config)
    kinds = {
        "gradients": (1 if stage == 3 else 2, parameters, micro if stage >= 2 else 1),
        "weights": (1 if stage else 0, parameters, micro if stage == 3 else 1),
        "weights, again": (1 if stage == 3 else 0, again, micro),
    }
    ring = (ranks - 1) / ranks
    return {
        name: Amount(
            ring * times * count * width * rounds,
            f"{times} x {count:,} x {width} B x {ranks - 1}/{ranks} ranks x {rounds} a step",
        )
        for name, (times, count, rounds) in kinds.items()
        if times and count and ranks > 1
    }


def collectives(parameters: int, ds_config: dict[str, Any], precision: str, micro: int) -> dict[str, int]:
    """How many a step has, by what they send: as many as there are buckets, if no tensor is larger than one.

    New weights of stages 1 and 2 come by group. So do norms, of a number each, where no rank has whole gradients.
    """
    stage, again = stage_of(ds_config), parameters - kept_whole(parameters, ds_config)
    fetched = size_of(ds_config, "stage3_prefetch_bucket_size")
    return {
        "gradients": math.ceil(parameters / bucket_of(ds_config, precision)) * (micro if stage >= 2 else 1),
        "weights": (0, GROUPS, GROUPS, micro * math.ceil(parameters / fetched))[stage],
        "weights, again": (0, 0, 0, micro * math.ceil(again / fetched))[stage],
        "norms": 0 if after_backward(stage, precision) else GROUPS,
    }


def after_backward(stage: int, precision: str) -> bool:
    """Whether DeepSpeed reduces gradients when the last backward pass is over, each rank getting all of them.

    So does its engine by itself, and with its ``BF16_Optimizer``.
    """
    return stage == 0 or (stage == 1 and precision == "bf16")


def bucket_of(ds_config: dict[str, Any], precision: str) -> int:
    """Numbers of gradients that are reduced at once."""
    return ENGINE_BUCKET if after_backward(stage_of(ds_config), precision) else size_of(ds_config, "reduce_bucket_size")


def size_of(ds_config: dict[str, Any], bucket: str) -> int:
    """Numbers in a bucket."""
    return max(1, int(ds_config.get("zero_optimization", {}).get(bucket, DEFAULTS[bucket])))


def seconds_each(sent: dict[str, Amount], counts: dict[str, int], cluster: Cluster) -> dict[str, float]:
    """Of sending each kind of bytes."""
    return {kind: amount.value / cluster.speed + counts[kind] * cluster.latency for kind, amount in sent.items()}


def seconds(sent: dict[str, Amount], counts: dict[str, int], cluster: Cluster) -> dict[str, Amount]:
    """Of sending so many bytes a rank in so many collectives, one after the other."""
    if not sent:
        return {}
    size, count, wait = sum(amount.value for amount in sent.values()), sum(counts.values()), cluster.latency
    return {
        "communication": Amount(size / cluster.speed, f"{size / 1e9:,.3f} GB / {cluster.speed / 1e9:,.0f} GB/s"),
        "its latency": Amount(count * wait, f"{count} collectives x {wait * 1e6:,.0f} us"),
    }
