"""What the machine at hand can do: its matrix rate at a model's shapes, and some real steps."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import psutil
import torch
import torch.distributed as dist

from litebert.data.batch import Step
from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.objectives import PretrainingObjective
from litebert.plan.devices import TRIES, Device, device_called, matrix_rate, seconds_of
from litebert.plan.memory import of_rank
from litebert.plan.network import sent
from litebert.plan.time import UPDATE_BYTES, kernels
from litebert.plan.work import Work, computed_again, operations
from litebert.recipe import Recipe
from litebert.train.ds_config import stage_of
from litebert.train.engine import Engine
from litebert.train.initial import initial_model
from litebert.train.room import peak
from litebert.train.world import World

STEPS = 8  # that are measured at each of two sizes of a micro-batch, after one that is not
FINER = 4  # times that the recipe's micro-batch is larger than the other one
GLOO = 1e9  # bytes per second between processes of a machine without GPUs, where there is only one to measure


@dataclasses.dataclass(frozen=True)
class Passes:
    """The forward and backward passes of a step, measured.

    Attributes:
        operations: of their products.
        micro: micro-batches that they were cut into.
        seconds: that they took, without sending.
    """

    operations: float
    micro: int
    seconds: float


def calibrated(recipe: Recipe, corpus: Corpus, ds_config: dict[str, Any], world: World, ranks: int) -> Device:
    """The machine as a device, for runs like this one.

    Each step is taken twice, at the recipe's micro-batch and at a quarter of it, which tells what an operation costs,
    with everything between the products, from what a micro-batch costs by itself. Both are without what is sent
    meanwhile, at a rate that is measured by itself; the bandwidth is that of an update. What libraries take for
    themselves is what the arithmetic leaves of the peak; on a CPU in bf16, where the peak grows with the run
    (``heap``), what the process took before it had a model.

    Args:
        world: the processes that measure, at the same time: they share caches and memory as those of a run do.
        ranks: that a step is to be divided among; the first ones' parts are what is measured.
    """
    on_gpu = world.device.type == "cuda"
    data = dataclasses.replace(recipe.data, corrupt="stop")
    finer = dataclasses.replace(data, micro_tokens=max(corpus.seq_length, data.budget // FINER))
    before = float(psutil.Process().memory_info().rss)
    model = initial_model(recipe, corpus)
    config, precision, recompute = model.config, recipe.train.precision, recipe.train.recompute
    count = model.parameter_count()
    engine = Engine(PretrainingObjective(model, recipe.objective), recipe.optimizer, precision, ds_config, world)
    passes: list[Passes] = []
    updates, largest = [], Work(0, 0, 0, 0)
    link = _link(count, world)
    sizes = (Loader(corpus, size, world.rank, ranks, 0, STEPS + 1) for size in (data, finer))
    for step in itertools.chain.from_iterable(zip(*sizes, strict=True)):
        work, micro = Work.of_step(step), len(step.micro_batches)
        passed = seconds_of(functools.partial(_pass, engine, step), world.device)
        within = _sent_within(count, ds_config, precision, world, micro)
        again = computed_again(config, work) if recompute else 0.0
        done = sum(operations(config, work).values()) + again
        passes.append(Passes(done, micro, passed - (within / link if link else 0.0)))
        for batch in step.micro_batches:
            largest = max(largest, Work.of_batch(batch), key=lambda work: work.tokens)
        updates.append(seconds_of(lambda: engine.update(0.0), world.device))
    rate = matrix_rate(config, precision, recipe.data.budget, world.device)
    whole, fine = passes[2::2], passes[3::2]
    reached, each = separated(list(zip(whole, fine, strict=True)), rate)
    held = of_rank(config, largest, ds_config, precision, world.size, not on_gpu, recompute)
    taken = _peak(world.device) - sum(amount.value for amount in held.values())
    known = device_called(torch.cuda.get_device_name()) if on_gpu else None
    return Device(
        name="gpu" if on_gpu else "cpu",
        memory=torch.cuda.get_device_properties(0).total_memory if on_gpu else psutil.virtual_memory().total / ranks,
        bf16=rate,
        fp32=rate,
        bandwidth=UPDATE_BYTES * count / statistics.median(updates[2:]),
        link=link or (known.link if known else GLOO),
        network=known.network if known else link or GLOO,
        matrix_share=reached / rate,
        traffic_share=1.0,
        passes=0.0,
        launch=each / (kernels(recompute) * config.num_layers),
        taken=before if not on_gpu and precision == "bf16" else taken,
    )


def separated(steps: Sequence[tuple[Passes, Passes]], rate: float) -> tuple[float, float]:
    """What an operation costs, and what a micro-batch costs by itself, as operations per second and seconds.

    A step's seconds are taken for operations / speed + micro-batches x cost: the same operations in more micro-batches
    tell the cost. It is none where the steps were not cut any finer, or were no slower for it; and no more than leaves
    time for the operations at the matrix rate.

    Args:
        steps: each twice, in a number of micro-batches and in more.
        rate: operations per second that nothing exceeds.
    """
    slower = [(b.seconds - a.seconds) / (b.micro - a.micro) for a, b in steps if b.micro > a.micro]
    passes = [each for both in steps for each in both]
    most = statistics.median((each.seconds - each.operations / rate) / each.micro for each in passes)
    cost = max(0.0, min(statistics.median(slower), most)) if slower else 0.0
    seconds = statistics.median((each.seconds - each.micro * cost) / each.operations for each in passes)
    return 1 / seconds, cost


def _link(count: int, world: World) -> float:
    """Bytes per second that a rank sends when the ranks add up so many fp32 numbers; 0 of one alone."""
    if world.size == 1:
        return 0.0
    numbers = torch.zeros(count, device=world.device)
    tries = [seconds_of(lambda: dist.all_reduce(numbers), world.device) for _ in range(TRIES + 1)]
    return 2 * 4 * count * (world.size - 1) / world.size / statistics.median(tries[1:])


def _sent_within(count: int, ds_config: dict[str, Any], precision: str, world: World, micro: int) -> float:
    """Bytes that a rank sends in the passes of a step: at stages 1 and 2 new weights come with the update."""
    amounts = sent(count, ds_config, precision, world.size, micro)
    return sum(each.value for kind, each in amounts.items() if kind == "gradients" or stage_of(ds_config) == 3)


def _peak(device: torch.device) -> float:
    """Bytes of memory that this process has used at once."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        return float(whole - free)
    return float(peak(device))


def _pass(engine: Engine, step: Step) -> None:
    for number, batch in enumerate(step.micro_batches, start=1):
        engine.backward(batch.to(engine.world.device), number == len(step.micro_batches))
