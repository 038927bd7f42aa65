"""How a run does on documents that it does not train on, while it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from data_tools.text.interface import TextTokenizer
from litebert.cloze import answers, page, questions
from litebert.data.batch import MicroBatch
from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.objectives import Objective
from litebert.train.engine import Engine
from litebert.train.world import World


class Evaluation:
    """The same held-out samples each time, divided among ranks, and a page of sentences to fill in.

    They are cut into micro-batches in one way, whatever the number of ranks; each is summed by one rank, and the sums
    are added in one order. So the same weights give the same figures at any world size. All samples stay in memory.
    """

    def __init__(
        self,
        heldout: Corpus,
        data: DataConfig,
        samples: int,
        tokenizer: TextTokenizer,
        world: World,
        waiting: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        """Args:
        heldout: the held-out split of the run's data.
        data: the recipe's.
        samples: how many to take, in an order of their own; 0 for all.
        tokenizer: that the data's ids are of.
        waiting: as ``Loader`` has it.
        """
        count = min(samples or heldout.samples, heldout.samples)
        whole = dataclasses.replace(data, global_batch=count, mixture={}, corrupt="stop")
        (step,) = Loader(heldout, whole, 0, 1, 0, 1, waiting=waiting)
        self._batches = step.micro_batches
        self._world, self._tokenizer = world, tokenizer
        self._questions = questions(tokenizer)

    def measure(self, engine: Engine) -> dict[str, float]:
        """Losses and accuracies over all of the samples, by name. Collective; waits for the device."""
        rank, size = self._world.rank, self._world.size
        rounds = -(-len(self._batches) // size)
        own = [min(turn * size + rank, len(self._batches) - 1) for turn in range(rounds)]  # at stage 3 all go together
        values = [engine.ask(_values, self._batches[number]) for number in own]
        names = list(values[0])
        sums = torch.zeros(rounds * size, len(names), dtype=torch.float64)
        for turn, value in enumerate(values):
            if turn * size + rank < len(self._batches):
                sums[turn * size + rank] = torch.stack([value[name] for name in names]).double().cpu()
        self._world.control.total(sums)
        return {f"heldout_{name}": sum(sums[:, column].tolist()) for column, name in enumerate(names)}

    def filled(self, engine: Engine) -> str:
        """What the model fills the sentences with, in Markdown. Collective; waits for the device."""
        shares, ids = engine.ask(answers, self._questions)
        return page(self._tokenizer, shares.tolist(), ids.tolist())


def _values(objective: Objective, batch: MicroBatch) -> dict[str, torch.Tensor]:
    return objective(batch).values
