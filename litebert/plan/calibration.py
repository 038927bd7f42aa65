"""What the machine at hand can do: its matrix rate at a model's shapes, and some real steps."""

from __future__ import annotations

import dataclasses
import functools
import resource
import statistics
from typing import Any

import psutil
import torch

from litebert.data.batch import Step
from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.objectives import PretrainingObjective
from litebert.plan.devices import Device, device_called, matrix_rate, seconds_of
from litebert.plan.memory import of_rank
from litebert.plan.time import UPDATE_BYTES
from litebert.plan.work import Work, operations
from litebert.recipe import Recipe
from litebert.train.engine import Engine
from litebert.train.initial import initial_model
from litebert.train.world import World

STEPS = 4  # that are measured, after one that is not
GLOO = 1e9  # bytes per second between processes of a machine without GPUs


def calibrated(recipe: Recipe, corpus: Corpus, ds_config: dict[str, Any], world: World, ranks: int) -> Device:
    """The machine as a device, for runs like this one.

    The share of the matrix rate is that of whole forward and backward passes, with everything between the products; the
    bandwidth is that of an update. What libraries take for themselves is what the arithmetic leaves of the peak.

    Args:
        world: this process alone.
        ranks: that a step is to be divided among; the first one's part is what is measured.
    """
    on_gpu = world.device.type == "cuda"
    data = dataclasses.replace(recipe.data, corrupt="stop")
    model = initial_model(recipe, corpus)
    config, precision = model.config, recipe.train.precision
    count = model.parameter_count()
    engine = Engine(PretrainingObjective(model, recipe.objective), recipe.optimizer, precision, ds_config, world)
    passes, updates, largest = [], [], Work(0, 0, 0, 0)
    for step in Loader(corpus, data, 0, ranks, 0, STEPS + 1):
        seconds = seconds_of(functools.partial(_pass, engine, step), world.device)
        for batch in step.micro_batches:
            largest = max(largest, Work.of_batch(batch), key=lambda work: work.tokens)
        passes.append(sum(operations(config, Work.of_step(step)).values()) / seconds)
        updates.append(seconds_of(lambda: engine.update(0.0), world.device))
    rate = matrix_rate(config, precision, recipe.data.micro_tokens, world.device)
    held = of_rank(config, largest, ds_config, precision, 1, not on_gpu)
    arithmetic = sum(amount.value for amount in held.values())
    known = device_called(torch.cuda.get_device_name()) if on_gpu else None
    return Device(
        name="gpu" if on_gpu else "cpu",
        memory=torch.cuda.get_device_properties(0).total_memory if on_gpu else psutil.virtual_memory().total / ranks,
        bf16=rate,
        fp32=rate,
        bandwidth=UPDATE_BYTES * count / statistics.median(updates[1:]),
        link=known.link if known else GLOO,
        network=known.network if known else GLOO,
        matrix_share=statistics.median(passes[1:]) / rate,
        traffic_share=1.0,
        passes=0.0,
        launch=0.0,
        taken=_peak(world.device) - arithmetic,
    )


def _peak(device: torch.device) -> float:
    """Bytes of memory that this process has used at once."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        return float(whole - free)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _pass(engine: Engine, step: Step) -> None:
    for number, batch in enumerate(step.micro_batches, start=1):
        engine.backward(batch.to(engine.world.device), number == len(step.micro_batches))
