"""What flows beside the training: text from storage, and answers from teachers."""

from __future__ import annotations

import math

from litebert.model.encoder import ModelConfig
from litebert.plan import time
from litebert.plan.disk import BYTES_PER_TOKEN, soft_targets
from litebert.plan.memory import Amount
from litebert.plan.network import Cluster
from litebert.plan.work import Work

FORWARD = 1 / 3  # of a step's products, and of what goes through memory between them


def read(tokens: float, seconds: float) -> Amount:
    """Bytes per second that all loaders together read, of steps with so many tokens."""
    return Amount(
        tokens * BYTES_PER_TOKEN / seconds, f"{tokens:,.0f} tokens x {BYTES_PER_TOKEN:.1f} B / {seconds:,.3f} s"
    )


def answers(teacher: ModelConfig, masked: float, seconds: float) -> dict[str, Amount]:
    """Bytes per second that teachers send to all students together, by codec."""
    return {
        name: Amount(amount.value / seconds, f"{amount.how} / {seconds:,.3f} s")
        for name, amount in soft_targets(teacher, masked).items()
    }


def teachers(teacher: ModelConfig, work: Work, micro: int, precision: str, cluster: Cluster, seconds: float) -> Amount:
    """Devices that answer as fast as the cluster's students learn, of their kind.

    Args:
        work: of a step, of all students.
        micro: micro-batches that a rank's part of it is cut into.
        seconds: that the students' step takes.
    """
    own = work.times(1 / cluster.ranks)
    times = time.of_step(teacher, own, micro, precision, cluster.device, state_share=0)
    busy = FORWARD * sum(amount.value for amount in times.values())
    count = math.ceil(cluster.ranks * busy / seconds)
    return Amount(count, f"{cluster.ranks} x {busy * 1e3:,.1f} ms of a third of its step / {seconds * 1e3:,.1f} ms")
