"""What the machine at hand can do: its matrix rate at a model's shapes, and some real steps."""

from __future__ import annotations

import dataclasses
import functools
import resource
import statistics
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
from litebert.plan.time import UPDATE_BYTES
from litebert.plan.work import Work, operations
from litebert.recipe import Recipe
from litebert.train.ds_config import stage_of
from litebert.train.engine import Engine
from litebert.train.initial import initial_model
from litebert.train.world import World

STEPS = 12  # that are measured, after one that is not
GLOO = 1e9  # bytes per second between processes of a machine without GPUs, where there is only one to measure


def calibrated(recipe: Recipe, corpus: Corpus, ds_config: dict[str, Any], world: World, ranks: int) -> Device:
    """The machine as a device, for runs like this one.

    The share of the matrix rate is that of whole forward and backward passes, with everything between the products, but
    without what is sent meanwhile, at a rate that is measured by itself; the bandwidth is that of an update. What
    libraries take for themselves is what the arithmetic leaves of the peak.

    Args:
        world: the processes that measure, at the same time: they share caches and memory as those of a run do.
        ranks: that a step is to be divided among; the first ones' parts are what is measured.
    """
    on_gpu = world.device.type == "cuda"
    data = dataclasses.replace(recipe.data, corrupt="stop")
    model = initial_model(recipe, corpus)
    config, precision = model.config, recipe.train.precision
    count = model.parameter_count()
    engine = Engine(PretrainingObjective(model, recipe.objective), recipe.optimizer, precision, ds_config, world)
    passes, updates, largest = [], [], Work(0, 0, 0, 0)
    link = _link(count, world)
    for step in Loader(corpus, data, world.rank, ranks, 0, STEPS + 1):
        passed = seconds_of(functools.partial(_pass, engine, step), world.device)
        within = _sent_within(count, ds_config, precision, world, len(step.micro_batches))
        seconds = passed - (within / link if link else 0.0)
        for batch in step.micro_batches:
            largest = max(largest, Work.of_batch(batch), key=lambda work: work.tokens)
        passes.append(sum(operations(config, Work.of_step(step)).values()) / seconds)
        updates.append(seconds_of(lambda: engine.update(0.0), world.device))
    rate = matrix_rate(config, precision, recipe.data.budget, world.device)
    held = of_rank(config, largest, ds_config, precision, world.size, not on_gpu)
    arithmetic = sum(amount.value for amount in held.values())
    known = device_called(torch.cuda.get_device_name()) if on_gpu else None
    return Device(
        name="gpu" if on_gpu else "cpu",
        memory=torch.cuda.get_device_properties(0).total_memory if on_gpu else psutil.virtual_memory().total / ranks,
        bf16=rate,
        fp32=rate,
        bandwidth=UPDATE_BYTES * count / statistics.median(updates[1:]),
        link=link or (known.link if known else GLOO),
        network=known.network if known else link or GLOO,
        matrix_share=statistics.median(passes[1:]) / rate,
        traffic_share=1.0,
        passes=0.0,
        launch=0.0,
        taken=_peak(world.device) - arithmetic,
    )


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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _pass(engine: Engine, step: Step) -> None:
    for number, batch in enumerate(step.micro_batches, start=1):
        engine.backward(batch.to(engine.world.device), number == len(step.micro_batches))
