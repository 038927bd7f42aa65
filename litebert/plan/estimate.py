"""What one setting of a run comes to on given devices, and which setting is the best."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from litebert.data.plan import AUTO
from litebert.model.encoder import ModelConfig
from litebert.plan import network, overlap, time
from litebert.plan.disk import KEPT
from litebert.plan.heap import heap
from litebert.plan.memory import Amount, activations, of_rank
from litebert.plan.network import Cluster
from litebert.plan.work import Work, parameters
from litebert.train.ds_config import read_ds_config, stage_of

FILLED = 0.9  # share of a device's memory that may be planned with
AS_FAST = 1.02  # a step this much longer than the fastest is as good
MICRO_TOKENS = tuple(2**power for power in range(11, 18))
# What data.micro_tokens auto comes to at the most. By these figures twice as many on an H100 are worth 4 % to the
# smallest of the presets, and less to others; a processor has no kernels to start, and its caches are small.
MOST_TOKENS = {"cuda": 65_536, "cpu": 8_192}


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be computed.

    Attributes:
        model: its shape.
        precision: fp32 or bf16.
        work: the mean step, of all ranks.
        longest: tokens of the longest sample.
        steps: of the run.
        recompute: whether layers are computed again for the backward.
    """

    model: ModelConfig
    precision: str
    work: Work
    longest: int
    steps: int
    recompute: bool = False


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A setting, and what it comes to.

    Attributes:
        stage, micro_tokens: the setting.
        micro_steps: micro-batches of a rank in a step.
        memory: bytes of a rank, by what they hold.
        network: bytes that a rank sends in a step.
        time: seconds of a step, one thing after the other: nothing is taken to be hidden behind anything else.
        hidden: seconds of the sending that could hide behind computing, at the most.
    """

    stage: int
    micro_tokens: int
    micro_steps: int
    memory: dict[str, Amount]
    network: dict[str, Amount]
    time: dict[str, Amount]
    hidden: dict[str, Amount]

    @property
    def bytes(self) -> float:
        """Of memory."""
        return total(self.memory)

    @property
    def seconds(self) -> float:
        """Of a step."""
        return total(self.time)

    @property
    def sending(self) -> float:
        """Seconds of a step in which nothing is computed."""
        return sum(self.time[name].value for name in ("communication", "its latency") if name in self.time)


def total(amounts: dict[str, Amount]) -> float:
    """The sum of a table."""
    return sum(amount.value for amount in amounts.values())


def estimate(job: Job, cluster: Cluster, ds_config: dict[str, Any], micro_tokens: int) -> Estimate:
    """What a job comes to at a ZeRO stage, with micro-batches of so many tokens.

    Raises ValueError where something is offloaded to the host.
    """
    if offloaded := [key for key in ds_config.get("zero_optimization", {}) if key.startswith("offload_")]:
        raise ValueError(
            f"zero_optimization.{' and '.join(offloaded)}: how fast a host updates and is sent to is not known, so"
            " offloading is not planned: give --train.ds_config a file without it"
        )
    stage, ranks, device = stage_of(ds_config), cluster.ranks, cluster.device
    count = sum(parameters(job.model).values())
    own = job.work.times(1 / ranks)
    micro = time.micro_steps(job.work, ranks, micro_tokens, job.longest)
    largest = own.times(min(micro_tokens, own.tokens / micro + job.longest) / own.tokens)
    memory = of_rank(job.model, largest, ds_config, job.precision, ranks, device.on_cpu, job.recompute)
    memory["libraries"] = Amount(device.taken, "driver, kernels, scratch" if device.passes else "measured")
    if device.on_cpu:
        memory["copy for a checkpoint"] = Amount(count * KEPT / ranks, f"{count:,} x {KEPT} B / {ranks} ranks")
    if device.on_cpu and job.precision == "bf16":
        kept = total(activations(job.model, largest, job.precision, on_cpu=True))
        memory |= heap(kept / job.model.num_layers, job.steps)
    sent = network.sent(count, ds_config, job.precision, ranks, micro)
    times = time.of_step(
        job.model,
        own,
        micro,
        job.precision,
        device,
        state_share=count / (ranks if stage else 1),
        recompute=job.recompute,
    )
    hidden = overlap.hidden(job.model, ds_config, job.precision, micro, sent, times, cluster, job.recompute)
    times |= network.seconds(sent, network.collectives(count, ds_config, job.precision, micro), cluster)
    return Estimate(stage, micro_tokens, micro, memory, sent, times, hidden)


def settings(job: Job, cluster: Cluster) -> list[Estimate]:
    """Every ZeRO stage that the precision allows, with the files in ds_configs, at powers of two of micro_tokens."""
    stages = [stage for stage in range(4) if stage or job.precision == "fp32"]
    files = [read_ds_config(Path(f"ds_configs/zero{stage}.json"), job.precision) for stage in stages]
    return [estimate(job, cluster, file, size) for file, size in itertools.product(files, sizes(job, cluster))]


def sizes(job: Job, cluster: Cluster) -> list[int]:
    """Powers of two that micro_tokens could be, ascending; more than the last would change nothing."""
    own = job.work.tokens / cluster.ranks + job.longest
    possible = [size for size in MICRO_TOKENS if size >= 2 * job.longest]
    return [size for size in possible if size < 2 * own] or possible[:1]


def best(estimates: Iterable[Estimate], memory: float, micro_tokens: int | Literal["auto"] = AUTO) -> Estimate | None:
    """The one that fits in a memory of so many bytes and is fastest; of those as fast the lowest stage, which sends
    least and can be understood, then the micro-batch nearest to the recipe's, or to the most that auto takes on a GPU.
    None where none fits."""
    fitting = [each for each in estimates if each.bytes <= FILLED * memory]
    if not fitting:
        return None
    enough = AS_FAST * min(each.seconds for each in fitting)
    as_fast = (each for each in fitting if each.seconds <= enough)
    wanted = MOST_TOKENS["cuda"] if micro_tokens == AUTO else int(micro_tokens)
    return min(as_fast, key=lambda each: (each.stage, abs(math.log2(each.micro_tokens / wanted))))
