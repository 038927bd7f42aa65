"""The training loop. It knows an objective's values and a loader's steps, not what is being learnt."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable

import torch

from data_tools.shards.keyed_rng import key_of
from litebert.data.batch import Step
from litebert.train.checkpoint import Checkpoint, Retention
from litebert.train.clock import Clock
from litebert.train.engine import Engine
from litebert.train.evaluation import Evaluation
from litebert.train.health import Health, RollBack
from litebert.train.ledger import FILE, Ledger
from litebert.train.metrics import Metrics
from litebert.train.pulse import Pulse
from litebert.train.rates import Rates
from litebert.train.run import RunFolder
from litebert.train.saving import Saver
from litebert.train.schedule import is_over, lr_factor
from litebert.train.stopping import CONTINUE, Starved, StopRequest, hours_running
from litebert.train.trace import Trace

DONE = 0
RESERVE = 0.05  # share of train.max_hours kept for the last checkpoint, until one has shown how long it takes
SLACK = 2.0  # how much longer the last checkpoint may take than the longest before


@dataclasses.dataclass
class Training:
    """A run in progress on one rank.

    Attributes:
        engine: trains the objective.
        folder: of the run, prepared; it has the recipe.
        stop: the request to stop, which listens.
        rates: of the run.
        unigram_loss: of masked words answered with the frequencies of the training text, in nats.
        resumed: the checkpoint that the engine was built from, or None.
        evaluation: on held-out documents, or None.
        traced: steps of this session to record a trace of.
    """

    engine: Engine
    folder: RunFolder
    stop: StopRequest
    rates: Rates
    unigram_loss: float
    resumed: Checkpoint | None = None
    evaluation: Evaluation | None = None
    traced: int = 0

    def __post_init__(self) -> None:
        begun = self.resumed.info if self.resumed else {}
        path, world, recipe = self.folder.path, self.engine.world, self.folder.recipe
        config = recipe.train
        start = self.resumed.step if self.resumed else 0
        self._skipped = self.folder.skipped()
        self._ledger = Ledger(path / FILE, begun.get("ledger"), world.leads, world.control.total)
        self._metrics = Metrics(path, world, start, config.steps, begun.get("metrics"))
        self._health = Health(recipe.health, begun.get("health"))
        self._trace = Trace(path / "profile", world, self.traced)
        self._pulse = Pulse(world.control)
        self._clock = Clock(world.control, begun.get("seconds", 0.0))
        retention = Retention(config.keep_last, config.keep_every)
        failed = "a checkpoint could not be saved"
        self._saver = Saver(path, retention, world.saving, self._metrics.say, lambda: self.stop.ask(failed))
        self._budget = config.max_hours * 3600
        self._granted = time.monotonic() + self._budget - hours_running() * 3600
        if self._budget:
            self.stop.deadline = self._granted - RESERVE * self._budget

    def run(self, steps: Iterable[Step]) -> int:
        """Trains to the end, or until all ranks agree to stop; both leave a checkpoint.

        Args:
            steps: this rank's, from the one after ``resumed`` to the last.

        Returns:
            the exit code: ``DONE`` or ``CONTINUE``.

        Raises:
            RollBack: too many steps in a row went bad.
            Starved: no step came after which to stop.
            OSError: a checkpoint could not be saved; older ones are as they were.
        """
        config = self.folder.recipe.train
        try:
            for step in self.rates.timed(steps):
                done = step.number + 1
                lr = self._lr(step.number)  # the step's own: the clock goes on
                loss = None if step.number in self._skipped else self._train(step)
                self._record(step)
                last = self._over(done)
                if done % config.log_every == 0 or last:
                    self._log(done, lr, last)
                self._trace.step()
                stopping = self._listen(step.number, loss) and not last
                if done % config.checkpoint_every == 0 or last or stopping:
                    self._save(done, must=last or stopping)
                if stopping:
                    self._saver.wait()
                    reason = self.stop.reason or "another rank was asked to"
                    self._metrics.say(f"stopped after step {done} ({reason}); the same command goes on from here")
                    return CONTINUE
                if last:
                    break
            self._saver.wait()
        except (RollBack, Starved):
            self._saver.wait()
            raise
        finally:
            self._trace.close()
            self._metrics.close()
        if self.engine.world.leads:
            self.folder.finish(done)
        return DONE

    def _train(self, step: Step) -> torch.Tensor:
        """One optimizer step; asks nothing of the device.

        Returns:
            this rank's share of its loss, 0-d; not a number where the step went bad and changed nothing.
        """
        world = self.engine.world
        # Dropout is a function of the seed, the step and the rank, so that a resumed run repeats it.
        torch.manual_seed(key_of(self.folder.recipe.train.seed, "dropout", step.number, world.rank))
        totals: dict[str, torch.Tensor] = {}
        for number, batch in enumerate(step.micro_batches, start=1):
            last = number == len(step.micro_batches)
            for name, value in self.engine.backward(batch.to(world.device), last).items():
                totals[name] = totals[name] + value if name in totals else value
        norm, taken = self.engine.update(self._lr(step.number))
        totals["grad_norm"] = norm / world.size
        self._metrics.add(totals, taken)
        self.rates.add(step)
        return totals["loss"].where(taken, torch.nan)

    def _lr(self, step: int) -> float:
        recipe = self.folder.recipe
        return recipe.optimizer.lr * lr_factor(recipe.schedule, step, recipe.train.steps, self._clock.seconds)

    def _over(self, done: int) -> bool:
        recipe = self.folder.recipe
        if recipe.schedule.hours:
            self._clock.tick()
        return is_over(recipe.schedule, done, recipe.train.steps, self._clock.seconds)

    def _record(self, step: Step) -> None:
        self._ledger.append(step, skipped=step.number in self._skipped)
        self._metrics.tick()

    def _log(self, done: int, lr: float, last: bool) -> None:
        config = self.folder.recipe.train
        more: dict[str, float | torch.Tensor] = {}
        if self.evaluation and (done % config.evaluate_every == 0 or last):
            begun = time.monotonic()
            more |= self.evaluation.measure(self.engine)
            self._metrics.page(done, "filled", self.evaluation.filled(self.engine))
            self.rates.stalled("evaluation_s", time.monotonic() - begun)
        more |= self.rates.take()
        if self.folder.recipe.schedule.hours:
            more["elapsed_s"] = self._clock.seconds
        ratios = self.engine.trust_ratios()
        if ratios is not None:
            more["trust_ratio"] = ratios
        means = self._metrics.log(done, lr, more)
        warning = self._health.plateau(done, means["mlm"], self.unigram_loss) if "mlm" in means else ""
        if warning:
            self._metrics.say(warning)

    def _listen(self, step: int, loss: torch.Tensor | None) -> bool:
        """Takes in what all ranks have to say; returns whether all stop here."""
        if self._budget:
            reserve = SLACK * self._saver.longest or RESERVE * self._budget
            if time.monotonic() + reserve > self._granted:
                self.stop.ask("train.max_hours")
        heard = self._pulse.beat(step, loss, self.stop.asked)
        self._judge(heard.losses)
        return heard.stop

    def _judge(self, losses: Iterable[tuple[int, float]]) -> None:
        for number, total in losses:
            if not math.isfinite(total):
                self._ledger.refuse(number)
            self._health.judge(number, total)

    def _save(self, done: int, must: bool) -> None:
        """Begins a checkpoint, for a thread to finish; but for one that must be, not while steps go bad, nor straight
        after batches that were left out: these weights may be what had made them bad, and no loss has shown."""
        begun = time.monotonic()
        self._judge(self._pulse.drain())
        if (self._health.troubled or done - 1 in self._skipped) and not must:
            return
        metrics = self._metrics.begun()
        pieces, updates = self.engine.pieces()
        info = self.folder.record | {
            "updates": updates,
            "seconds": self._clock.seconds,
            "ledger": self._ledger.commit(),
            "skipped": sorted(number for number in self._skipped if number < done),
            "metrics": metrics,
            "health": self._health.begun(),
        }
        durable = [self.folder.path / FILE, self.folder.path / "metrics.jsonl"] if self.engine.world.leads else []
        self._saver.start(done, pieces, info, durable, begun)
        self.rates.stalled("checkpoint_s", time.monotonic() - begun)
