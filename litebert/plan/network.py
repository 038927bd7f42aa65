"""What a rank sends in a step, by ZeRO stage, and how long that takes on the links that there are."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from litebert.plan.devices import Device
from litebert.plan.memory import ACCUMULATED, Amount, width_of

LINK_HOP, NETWORK_HOP = 2e-6, 10e-6  # seconds from a device to another of its node, and to one of another node


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


def sent(parameters: int, stage: int, precision: str, ranks: int, micro_steps: int) -> dict[str, Amount]:
    """Bytes that a rank sends in a step, with rings, where a collective of n bytes sends n (ranks - 1) / ranks.

    An all-reduce is two of them. Stages 0 and 1 reduce the gradients of a step once, in bf16 those accumulated in fp32;
    stages 2 and 3 those of each micro-batch, in the type of the weights. Stages 1 and 2 then gather the new weights,
    stage 3 gathers them twice for each micro-batch.
    """
    width = width_of(precision)
    accumulated = ACCUMULATED if precision == "bf16" else width
    gradients = (2, accumulated, 1) if stage <= 1 else (1, width, micro_steps)
    weights = {0: (0, width, 0), 1: (1, width, 1), 2: (1, width, 1), 3: (2, width, micro_steps)}[stage]
    ring = (ranks - 1) / ranks
    return {
        name: Amount(
            ring * times * size * parameters * rounds,
            f"{times} x {parameters:,} x {size} B x {ranks - 1}/{ranks} ranks x {rounds} a step",
        )
        for name, (times, size, rounds) in {"gradients": gradients, "weights": weights}.items()
        if times and ranks > 1
    }


def collectives(parameters: int, layers: int, ds_config: dict[str, Any], micro_steps: int) -> int:
    """How many a step has: one a bucket of gradients, one a bucket of new weights, at stage 3 two a layer."""
    zero = ds_config.get("zero_optimization", {})
    stage = int(zero.get("stage", 0))
    gradients = math.ceil(parameters / float(zero.get("reduce_bucket_size", 5e8)))
    weights = math.ceil(parameters / float(zero.get("allgather_bucket_size", 5e8)))
    if stage == 3:
        return micro_steps * (gradients + 2 * layers)
    return gradients * (micro_steps if stage == 2 else 1) + (weights if stage else 0)


def seconds(sent: float, count: int, cluster: Cluster) -> dict[str, Amount]:
    """Of sending so many bytes a rank in so many collectives, one after the other."""
    if not sent:
        return {}
    wait = cluster.latency
    return {
        "communication": Amount(sent / cluster.speed, f"{sent / 1e9:,.3f} GB / {cluster.speed / 1e9:,.0f} GB/s"),
        "its latency": Amount(count * wait, f"{count} collectives x {wait * 1e6:,.0f} us"),
    }
