"""A session of a run: what a command line asks for, from its checks to the end, or to a stop to go on from.

It is the same for all that a run can learn; a ``Task`` says what that is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from data_tools.shards.cache import Cache
from data_tools.shards.reader import DamagedBlock
from data_tools.text.huggingface import load_tokenizer
from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.data.quarantine import agreement
from litebert.objectives import Objective
from litebert.plan.devices import computes_bf16, name_of, peak_rate
from litebert.plan.disk import checkpoints
from litebert.plan.work import Work
from litebert.recipe import Command, Recipe, parse_command
from litebert.train.ds_config import read_ds_config, stage_of
from litebert.train.engine import Engine
from litebert.train.evaluation import Evaluation
from litebert.train.health import RollBack
from litebert.train.journal import kept, record
from litebert.train.loop import DONE, Training
from litebert.train.place import Place, came_back
from litebert.train.preflight import problems
from litebert.train.rates import Rates
from litebert.train.rendezvous import Absent
from litebert.train.run import PATIENCE, RECORD, RunFolder, beginning, recorded
from litebert.train.schedule import is_over
from litebert.train.sizing import Sizing
from litebert.train.stopping import CONTINUE, Starved, StopRequest
from litebert.train.watch import Watch
from litebert.train.world import World, join_world

WRONG, BROKEN = 2, 1
# Seconds before an error is taken for this rank's own: most are told to all ranks, and rank 0 says them; or they are
# the echo of another rank's death, by which Watch ends this one.
OTHERS_WAIT = 2.0
# Seconds that a file system may keep the lock of a node that is gone, where its job came back: NFS does for a lease.
_LEASE = 120.0


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run learns.

    Attributes:
        objective: makes what the engine trains, as it is before the first step, the same on every rank.
        operations: floating-point operations of a part of a step, of everything that the rank computes.
        fingerprints: of what the task reads beside the data, by name.
        beside: gives a corpus so that what the task wants beside it is read with it. ValueError where they do not
            belong together.
        figures: of the machines that it asks, for a line of the log, since it was called before; it keeps nobody
            waiting.
    """

    objective: Callable[[], Objective]
    operations: Callable[[Work], float]
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    beside: Callable[[Corpus], Corpus] = lambda corpus: corpus
    figures: Callable[[], Mapping[str, float]] = dict


TaskOf = Callable[[Command, Corpus, World], Task]


def train(command: Command, task_of: TaskOf, world: World, stop: StopRequest) -> int:
    """Trains a run to its end, from its newest checkpoint if it has one, or until it is asked to stop.

    Returns:
        the exit code.

    Raises:
        ValueError: recipe, data and run folder do not fit together; only the errors of the folder were added to.
        OSError: a checkpoint could not be saved; older ones are as they were.
        FloatingPointError: steps keep going bad.
        Starved: it was asked to stop while no data came.
    """
    with beginning(command.run, world.rank, world.node):
        ready = _ready(command, task_of, world)
    folder = ready.folder
    stop.listen()
    with contextlib.ExitStack() as stack:
        if world.leads:
            stack.enter_context(folder.held(_LEASE if came_back() else PATIENCE))
            stack.enter_context(kept(folder.path, world.meeting))
        try:
            return _attempts(ready, world, stop, command.traced)
        except Exception as error:
            record(folder.path, world.rank, world.node, repr(error), traceback.format_exc())
            raise


def _attempts(ready: _Ready, world: World, stop: StopRequest, traced: int) -> int:
    """Trains, and goes back where steps keep going bad; as ``train``."""
    while True:
        try:
            with Sizing(ready.folder, ready.ds_config, world).explained():
                return _attempt(ready, world, stop, traced)
        except DamagedBlock as error:
            raise ValueError(f"{error}, or train without it: --data.corrupt quarantine") from error
        except RollBack as back:
            if world.leads:
                ready.folder.roll_back(back)
                print(f"{back}; going back to the checkpoint before, to leave their batches out", flush=True)
        gc.collect()  # the engine is full of cycles, and the next one wants its memory
        world.control.barrier()


def check(command: Command, task_of: TaskOf, world: World) -> str:
    """Sees whether a run could begin; changes nothing.

    Returns:
        what it would be, in a line.

    Raises:
        ValueError: it could not; as ``train``.
    """
    ready = _ready(command, task_of, world)
    parameters, train = ready.task.objective().model.parameter_count(), command.recipe.train
    if wrong := problems(command.data, command.run, checkpoints(parameters, train)):
        raise ValueError("; ".join(wrong))
    return (
        f"{command.run} can begin: {parameters:,} parameters, {train.steps:,} steps, {ready.corpus.samples:,} samples "
        f"of {', '.join(command.data)}"
    )


def main(program: str, argv: Sequence[str], description: str, task_of: TaskOf, *, distils: bool = False) -> NoReturn:
    """Runs a command line and leaves the process.

    Args:
        program: its name, for messages.
        distils: whether the command line names teachers.
    """
    place = Place()
    try:
        place = Place.here()
        command = parse_command(argv, description, distils=distils)
        stop = StopRequest()
        with contextlib.nullcontext() if command.check else beginning(command.run, place.rank, place.node):
            world = join_world(place)
        if command.check:
            print(check(command, task_of, world))
            _leave(DONE)
        tell = functools.partial(record, command.run, world.rank, world.node)
        with Watch(world.watching, stop, bool(place.launcher), tell):
            code = train(command, task_of, world, stop)
        _leave(code)
    except (ValueError, OSError, FloatingPointError, Starved, Absent) as error:
        if place.rank:
            time.sleep(OTHERS_WAIT)
        print(f"{program}: {error}", file=sys.stderr)
        _leave({Starved: CONTINUE, Absent: BROKEN}.get(type(error), WRONG))
    except Exception:
        time.sleep(OTHERS_WAIT)
        traceback.print_exc()
        _leave(BROKEN)


@dataclasses.dataclass(frozen=True)
class _Ready:
    """What a run begins with, when all of it was found to fit together."""

    task: Task
    ds_config: dict[str, Any]
    folder: RunFolder
    corpus: Corpus
    heldout: Corpus | None


def _ready(command: Command, task_of: TaskOf, world: World) -> _Ready:
    """Raises ValueError where recipe, data and run folder do not fit together; changes nothing."""
    command = dataclasses.replace(command, recipe=_settled(command, world))
    recipe = command.recipe
    ds_config = read_ds_config(Path(recipe.train.ds_config), recipe.train.precision)
    corpus = Corpus.opened(command.data, "train", cache_of(recipe))
    recipe.check_data(corpus.seq_length, corpus.pairs)
    task = task_of(command, corpus, world)
    corpus, heldout = task.beside(corpus), None
    if recipe.train.evaluate_every:
        heldout = task.beside(Corpus.opened(command.data, "heldout", cache_of(recipe)))
    fingerprints = {"data": corpus.fingerprint, "tokenizer": corpus.tokenizer_fingerprint, **task.fingerprints}
    devices = f"{world.size} x {name_of(world.device)}"
    folder = RunFolder(command.run, fingerprints, recipe, corpus.locations, devices)
    folder.check()
    if world.leads:
        for line in filter(None, (folder.unrecorded(), folder.changed_versions(), _emulated(recipe, world.device))):
            print(line, flush=True)
    return _Ready(task, ds_config, folder, corpus, heldout)


def _settled(command: Command, world: World) -> Recipe:
    """The recipe with a precision where it says auto. Collective."""
    bf16 = all(int(told) for told in world.control.gather(str(int(computes_bf16(world.device)))))
    began = recorded(command.run)["recipe"] if (command.run / RECORD).exists() else None
    return command.recipe.settled(bf16, began)


def _emulated(recipe: Recipe, device: torch.device) -> str:
    """That training is slow for its precision, in a line; empty where it is not."""
    if recipe.train.precision != "bf16" or computes_bf16(device):
        return ""
    return "train.precision bf16 has no instructions here and is emulated: a new run with auto or fp32 is much faster"


def _attempt(ready: _Ready, world: World, stop: StopRequest, traced: int) -> int:
    """Trains from the newest checkpoint on; as ``train``, but that it may raise RollBack."""
    task, folder, corpus = ready.task, ready.folder, ready.corpus
    recipe, checkpoint = folder.recipe, folder.resume(world)
    start = checkpoint.step if checkpoint else 0
    if checkpoint and is_over(recipe.schedule, start, recipe.train.steps, checkpoint.info["seconds"]):
        if world.leads:
            folder.finish(start)
            print(f"{folder.path}: all {start} steps are done")
        return DONE
    recipe = Sizing(folder, ready.ds_config, world).sized(corpus, task.objective, start)
    group = agreement(recipe.data)
    loader = Loader(corpus, recipe.data, world.rank, world.size, start, recipe.train.steps, group, stop.starve)
    objective = task.objective()
    if world.leads:
        with corpus.splits[0].tokenizer() as tokenizer:
            folder.prepare(tokenizer)
        print(_summary(recipe, corpus, objective.model.parameter_count(), stage_of(ready.ds_config), world), flush=True)
    engine = Engine(objective, recipe.optimizer, recipe.train.precision, ready.ds_config, world, checkpoint)
    shape = objective.model.config
    peak = peak_rate(shape, recipe.train.precision, recipe.data.budget, world.device)
    evaluation = None
    if heldout := ready.heldout:
        with heldout.splits[0].tokenizer() as tokenizer:
            evaluation = Evaluation(
                heldout, recipe.data, recipe.train.evaluate_samples, load_tokenizer(tokenizer), world, stop.starve
            )
    rates = Rates(world, lambda step: task.operations(Work.of_step(step)), peak, lambda: corpus.waited, task.figures)
    return Training(engine, folder, stop, rates, _unigram_loss(corpus), checkpoint, evaluation, traced).run(loader)


def cache_of(recipe: Recipe) -> Cache:
    """What keeps what is read over a network."""
    return Cache(Path(recipe.data.cache).expanduser(), int(recipe.data.cache_gb * 1e9))


def _unigram_loss(corpus: Corpus) -> float:
    """The loss, in nats, of answering every masked word with the frequencies of the text."""
    logs = corpus.unigram_log_probabilities
    return float(-(np.exp(logs) * logs).sum())


def _summary(recipe: Recipe, corpus: Corpus, parameters: int, stage: int, world: World) -> str:
    """What the numbers of the recipe come to, in four lines."""
    batch, steps, length = recipe.data.global_batch, recipe.train.steps, corpus.tokens / corpus.samples
    tokens = batch * length
    epochs = steps * batch / corpus.samples
    micro = f"micro-batches of at most {recipe.data.budget:,}"
    return "\n".join(
        [
            f"model  {parameters:,} parameters, vocabulary {corpus.vocab_size:,}",
            f"data   {corpus.samples:,} samples of {length:.0f} tokens, {corpus.seq_length} at most",
            f"batch  {batch:,} samples = {tokens:,.0f} tokens a step / {world.size} ranks, in {micro}",
            f"run    {steps:,} steps = {steps * tokens:,.0f} tokens, {epochs:.2f} epochs; "
            f"{recipe.train.precision}, ZeRO {stage}, {world.device.type}",
        ]
    )


def _leave(code: int) -> NoReturn:
    """Ends the process at once: the interpreter's own way out sometimes aborts inside ZeRO-3."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
