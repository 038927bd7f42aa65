"""The training loop. It knows an objective's values and a loader's steps, not what is being learnt."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable

import torch

from data_tools.shards.keyed_rng import key_of
from litebert.data.batch import Step
from litebert.train.checkpoint import Checkpoint, publish
from litebert.train.engine import Engine
from litebert.train.ledger import FILE, Ledger
from litebert.train.metrics import Metrics
from litebert.train.run import RunFolder
from litebert.train.schedule import lr_factor
from litebert.train.world import StopRequest

DONE = 0
CONTINUE = 85  # the exit code of a run that stopped with a checkpoint and wants to be started again


@dataclasses.dataclass
class Training:
    """A run in progress on one rank.

    Attributes:
        engine: trains the objective.
        folder: of the run, prepared; it has the recipe.
        resumed: the checkpoint that the engine was built from, or None.
    """

    engine: Engine
    folder: RunFolder
    resumed: Checkpoint | None = None

    def __post_init__(self) -> None:
        begun = self.resumed.info if self.resumed else {}
        path, world = self.folder.path, self.engine.world
        start = self.resumed.step if self.resumed else 0
        self._ledger = Ledger(path / FILE, begun.get("ledger"), world.leads, world.total)
        self._metrics = Metrics(path, world, start, self.folder.recipe.train.steps, begun.get("metrics"))

    def run(self, steps: Iterable[Step], stop: StopRequest) -> int:
        """Trains to the last step, or until all ranks agree to stop; both leave a checkpoint.

        Args:
            steps: this rank's, from the one after ``resumed`` to the last.
            stop: the request to stop, entered.

        Returns:
            the exit code: ``DONE`` or ``CONTINUE``.
        """
        recipe = self.folder.recipe
        config = recipe.train
        for step in steps:
            lr = recipe.optimizer.lr * lr_factor(recipe.schedule, step.number, config.steps)
            self._take(step, lr)
            done = step.number + 1
            last = done == config.steps
            if done % config.log_every == 0 or last:
                self._metrics.log(done, lr)
            stopping = stop.agreed() and not last
            if done % config.checkpoint_every == 0 or last or stopping:
                self._save(done)
            if stopping:
                self._metrics.say(f"stopped after step {done}; the same command goes on from here")
                self._metrics.close()
                return CONTINUE
        if self.engine.world.leads:
            self.folder.finish()
        self._metrics.close()
        return DONE

    def _take(self, step: Step, lr: float) -> None:
        """One optimizer step; asks nothing of the device."""
        world = self.engine.world
        # Dropout is a function of the seed, the step and the rank, so that a resumed run repeats it.
        torch.manual_seed(key_of(self.folder.recipe.train.seed, "dropout", step.number, world.rank))
        totals: dict[str, torch.Tensor] = {}
        for number, batch in enumerate(step.micro_batches, start=1):
            last = number == len(step.micro_batches)
            for name, value in self.engine.backward(batch.to(world.device), last).items():
                totals[name] = totals[name] + value if name in totals else value
        totals["grad_norm"] = self.engine.update(lr) / world.size
        self._metrics.add(totals, step.counts.tokens)
        self._metrics.tick()
        self._ledger.append(step)

    def _save(self, done: int) -> None:
        """Publishes a checkpoint; all ranks wait until it is there."""
        begun = time.monotonic()
        metrics = self._metrics.begun()
        tensors, updates = self.engine.state()
        ledger = self._ledger.commit()
        if self.engine.world.leads:
            progress = {"updates": updates, "ledger": ledger, "metrics": metrics}
            info = self.folder.record | progress
            checkpoint = publish(self.folder.path, done, tensors, info, self.folder.recipe.train.keep_checkpoints)
            size = sum(file["bytes"] for file in checkpoint.info["files"].values())
            seconds = time.monotonic() - begun
            self._metrics.say(f"checkpoint {checkpoint.folder.name}: {size / 1e6:,.1f} MB in {seconds:.2f} s")
        self.engine.world.barrier()
        self._metrics.stalled(time.monotonic() - begun)
