"""What data.micro_tokens auto comes to: the most tokens at once that fit, found by trying, and kept with the run.

An engine that is thrown away afterwards takes passes over real batches of growing size. Memory grows by about the same
bytes for each token, so that two sizes tell how far it will reach, and none is tried that would not fit.

Micro-batches change results by rounding alone. For a continued run to be the uninterrupted one bit for bit, sizes are
kept in the run's folder, by what they depend on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import torch

from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.data.plan import AUTO, Plan
from litebert.data.quarantine import agreement
from litebert.objectives import Objective
from litebert.plan.estimate import FILLED, MOST_TOKENS
from litebert.plan.heap import KERNEL, KERNELS
from litebert.recipe import Recipe
from litebert.train.ds_config import stage_of
from litebert.train.engine import Engine
from litebert.train.room import forget_peak, peak, room
from litebert.train.run import SIZES, RunFolder, write
from litebert.train.world import World

FIRST = 2048  # tokens of the first try, or a little more; so many tell something of the memory of each


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How large micro-batches are, of a run on these ranks.

    Attributes:
        folder: of the run, held.
        ds_config: its engine keys.
        world: the ranks.
    """

    folder: RunFolder
    ds_config: dict[str, Any]
    world: World

    def sized(self, corpus: Corpus, objective: Callable[[], Objective], start: int) -> Recipe:
        """The run's recipe, with a number where it says auto: the one of its last session in the same circumstances,
        or else a new one. Collective; rank 0 says which and why.

        Args:
            objective: makes what is trained.
            start: the step that the session begins with.

        Raises:
            ValueError: the memory is too small, or what was kept cannot be read.
        """
        recipe, leads = self.folder.recipe, self.world.leads
        if recipe.data.micro_tokens != AUTO:
            return recipe
        tokens = self.world.control.broadcast(self._kept().get(self._here, 0) if leads else 0)
        why = f"as it was before ({self.folder.path / SIZES})"
        if not tokens:
            tokens, why = most_tokens(recipe, corpus, objective, self.ds_config, self.world, start)
            if leads:
                write(self.folder.path / SIZES, json.dumps(self._kept() | {self._here: tokens}, indent=1))
        if leads:
            print(f"auto   micro-batches of at most {tokens:,} tokens: {why}", flush=True)
        return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, micro_tokens=tokens))

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Makes of an error for want of memory a ValueError that says what to change."""
        try:
            yield
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
                raise
            tokens, chosen = self.folder.recipe.data.micro_tokens, ""
            if tokens == AUTO:
                kept = self._kept().get(self._here)
                tokens, chosen = (kept, ", which auto chose") if kept else (FIRST, ", which auto tries first")
            raise ValueError(
                f"rank {self.world.rank} has too little memory for micro-batches of {tokens:,} tokens{chosen}: try "
                f"--data.micro_tokens {int(tokens) // 2}, --train.recompute true, or more ranks at a higher ZeRO stage "
                f"({str(error).splitlines()[0]})"
            ) from error

    @property
    def _here(self) -> str:
        """What the memory for a token and the room for it depend on, and may change between sessions."""
        recomputing = ", recompute" if self.folder.recipe.train.recompute else ""
        return f"{self.folder.devices}, ZeRO {stage_of(self.ds_config)}{recomputing}"

    def _kept(self) -> dict[str, int]:
        path = self.folder.path / SIZES
        try:
            return {str(here): int(tokens) for here, tokens in json.loads(path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: no list of sizes ({error!r}): remove it, or say data.micro_tokens") from None


def most_tokens(
    recipe: Recipe,
    corpus: Corpus,
    objective: Callable[[], Objective],
    ds_config: dict[str, Any],
    world: World,
    start: int = 0,
    memory: int | None = None,
) -> tuple[int, str]:
    """Tokens that every rank has room for at once, and what bounds them, in words. Collective.

    They are no more than a rank's share of a batch, and than what pays (``MOST_TOKENS``).

    Args:
        start: the step from which the run goes on.
        memory: bytes that this rank may have; what there is, if None.

    Raises:
        ValueError: there is no room for two samples.
        OSError: this system does not tell how much a process uses.
    """
    longest, pays = corpus.seq_length, MOST_TOKENS[world.device.type]
    share = -(-recipe.data.global_batch * longest // world.size) + longest
    most = max(min(pays, share), 2 * longest)
    sizes = [most]
    while sizes[0] // 2 >= max(FIRST, 4 * longest):
        sizes.insert(0, sizes[0] // 2)
    trials = _Trials(recipe, corpus, objective, ds_config, world, start)
    before = _Trial(0, peak(world.device), whole=False)
    for size, following in zip(sizes, [*sizes[1:], None], strict=True):
        now, limit = trials.of(size), trials.limit(memory)
        each = max(1.0, (now.peak - before.peak) / (now.tokens - before.tokens))
        own = (int(now.tokens + (limit - now.peak) / each), now.tokens, now.peak / 1e9, limit / 1e9, world.rank)
        reached, tried, took, given, rank = min(json.loads(text) for text in world.control.gather(json.dumps(own)))
        if now.whole or following is None or reached < following:
            break
        before = now
    trials.end()
    told = f"{tried:,} took {took:.2f} GB of {given:.2f} that rank {rank} may fill"
    if reached < 2 * longest:
        raise ValueError(
            f"data.micro_tokens auto: not even two samples of {longest} tokens fit, for {told}; try --train.recompute "
            "true, a smaller model, or more ranks at a higher ZeRO stage"
        )
    if reached < most:
        return reached, told
    return most, f"{'a share of a batch is no more' if most < pays else 'more would not pay'}; {told}"


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A step on one micro-batch.

    Attributes:
        tokens: of the micro-batch.
        peak: bytes that the rank had at once.
        whole: whether the micro-batch is all that the rank has of a batch.
    """

    tokens: int
    peak: int
    whole: bool


class _Trials:
    """An engine to try sizes with; all ranks try the same in turn."""

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        objective: Callable[[], Objective],
        ds_config: dict[str, Any],
        world: World,
        start: int,
    ) -> None:
        self._recipe, self._corpus, self._world = recipe, corpus, world
        self._group = agreement(recipe.data)
        begins = {start} | {begin for begin in recipe.data.mixture if start < begin < recipe.train.steps}
        plan = Plan(corpus, recipe.data)
        # Of the phases that are left, the one whose samples are longest: attention may keep a number for each pair.
        self._step = max(begins, key=lambda begin: float((plan.step(begin).lengths ** 2.0).sum()))
        hosts = world.control.gather(socket.gethostname())
        self._sharing = hosts.count(hosts[world.rank])
        self._engine = Engine(objective(), recipe.optimizer, recipe.train.precision, ds_config, world)
        # On a host, a checkpoint that is being written is a copy of the state beside it.
        self._written = self._engine.pieces() if world.device.type == "cpu" else None
        forget_peak(world.device)

    def of(self, size: int) -> _Trial:
        """A step with micro-batches of at most so many tokens: the largest of this rank's, twice, for the second finds
        the gradients of the first there."""
        world = self._world
        data = dataclasses.replace(self._recipe.data, micro_tokens=size)
        loader = Loader(self._corpus, data, world.rank, world.size, self._step, self._step + 1, self._group)
        batches = loader.step(self._step).micro_batches
        largest = max(batches, key=lambda batch: len(batch.ids))
        forget_peak(world.device)
        for last in (False, True):
            self._engine.backward(largest.to(world.device), last)
        had = peak(world.device)
        self._engine.update(0.0)
        return _Trial(len(largest.ids), had, whole=len(batches) == 1)

    def limit(self, memory: int | None) -> float:
        """Bytes that this rank may have at once, of so many, or of what there is."""
        world = self._world
        world.control.barrier()  # what others of the host use to try is free again
        on_cpu = world.device.type == "cpu"
        kernels = KERNELS * KERNEL if on_cpu and self._recipe.train.precision == "bf16" else 0.0
        return FILLED * (memory or room(world.device, self._sharing)) - kernels

    def end(self) -> None:
        """Gives its memory back."""
        del self._engine, self._written
        gc.collect()  # the engine is full of cycles
        if self._world.device.type == "cuda":
            torch.cuda.empty_cache()
        forget_peak(self._world.device)
