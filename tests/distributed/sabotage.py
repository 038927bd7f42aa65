"""Faults put into a rank: losses that go bad, errors, and batches that are left out from the beginning."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch

from litebert.data.batch import Step
from litebert.objectives import Contribution, PretrainingObjective
from litebert.train.loop import Training
from litebert.train.run import RunFolder

_FOR_GOOD = contextlib.ExitStack()


@dataclasses.dataclass(frozen=True)
class Sabotage:
    """What goes wrong on one rank, in some steps.

    Attributes:
        rank: the one.
        adds: steps, and what is added to their losses: NaN or infinity (with gradients that are finite), or a spike.
        fails: step in which there is an error.
        leaves_out: batches that every rank takes for ruled out from the beginning.
    """

    rank: int = 1
    adds: tuple[tuple[int, float], ...] = ()
    fails: int | None = None
    leaves_out: tuple[int, ...] = ()

    def __call__(self, rank: int) -> None:
        """Does it for the rest of the process."""
        _FOR_GOOD.enter_context(self.applied(rank))

    @contextlib.contextmanager
    def applied(self, rank: int) -> Iterator[None]:
        """Does it for as long as the context lasts."""
        train, forward, now = Training._train, PretrainingObjective.forward, [-1]

        def train_and_tell(training: Training, step: Step) -> torch.Tensor:
            now[0] = step.number
            return train(training, step)

        def forward_and_spoil(objective: PretrainingObjective, batch: Any) -> Contribution:
            contribution = forward(objective, batch)
            if rank == self.rank:
                if now[0] == self.fails:
                    raise ArithmeticError(f"put into step {self.fails}")
                contribution.loss = contribution.loss + dict(self.adds).get(now[0], 0.0)
                contribution.values["loss"] = contribution.loss.detach()
            return contribution

        with contextlib.ExitStack() as stack:
            stack.enter_context(patch.object(Training, "_train", train_and_tell))
            stack.enter_context(patch.object(PretrainingObjective, "forward", forward_and_spoil))
            if self.leaves_out:
                stack.enter_context(patch.object(RunFolder, "skipped", lambda _: frozenset(self.leaves_out)))
            yield
