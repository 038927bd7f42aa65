"""What a rank's training asks torch to send: the collectives of every step, by their size."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch.distributed as dist
from torch import Tensor

from litebert.data.batch import Step
from litebert.train.loop import Training

# Of each collective, the argument that is as long as all ranks' parts together, and how often a ring sends it.
SIZED = {
    "all_reduce": ("tensor", 2),
    "reduce": ("tensor", 1),
    "broadcast": ("tensor", 1),
    "all_gather": ("tensor_list", 1),
    "all_gather_into_tensor": ("output_tensor", 1),
    "reduce_scatter": ("input_list", 1),
    "reduce_scatter_tensor": ("input", 1),
}
UNKNOWN = ("all_reduce_coalesced", "all_gather_coalesced", "all_to_all", "all_to_all_single", "gather", "scatter")
_FOR_GOOD = contextlib.ExitStack()


@dataclasses.dataclass(frozen=True)
class Collective:
    """One that a training had a part in.

    Attributes:
        step: in which.
        name: torch's.
        size: bytes of all ranks' parts together.
    """

    step: int
    name: str
    size: int

    def sent(self, ranks: int) -> float:
        """Bytes that a rank sends of it in a ring."""
        return SIZED[self.name][1] * self.size * (ranks - 1) / ranks


@dataclasses.dataclass(frozen=True)
class Log:
    """Writes what a rank takes part in to a file of a folder, for as long as the process lives."""

    folder: Path

    def __call__(self, rank: int) -> None:
        """Begins; before DeepSpeed looks what torch has."""
        file = (self.folder / f"rank{rank}.jsonl").open("w", buffering=1)
        now, train = [-1], Training._train

        def note(name: str, size: int) -> None:
            file.write(json.dumps(dataclasses.asdict(Collective(now[0], name, size))) + "\n")

        def train_and_tell(training: Training, step: Step) -> Tensor:
            now[0] = step.number
            loss = train(training, step)
            now[0] = -1
            return loss

        _FOR_GOOD.enter_context(patch.object(Training, "_train", train_and_tell))
        functions = {name: _noted(name, note) for name in SIZED} | dict.fromkeys(UNKNOWN, _refused)
        for module in (dist, dist.distributed_c10d):
            for name, function in functions.items():
                _FOR_GOOD.enter_context(patch.object(module, name, function))

    def read(self, rank: int) -> list[Collective]:
        """What a rank took part in, within steps."""
        lines = (self.folder / f"rank{rank}.jsonl").read_text().splitlines()
        return [each for line in lines if (each := Collective(**json.loads(line))).step >= 0]


def _noted(name: str, note: Callable[[str, int], None]) -> Callable[..., Any]:
    """torch's function, which says how much it was given."""
    function = getattr(dist, name)
    signature, sized = inspect.signature(function), SIZED[name][0]

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        tensors = given[sized] if isinstance(given[sized], list) else [given[sized]]
        note(name, sum(tensor.numel() * tensor.element_size() for tensor in tensors))
        return function(*args, **kwargs)

    return noted


def _refused(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("a collective that is not counted here")
