"""How often a training step makes the host wait for a value of the device: by precision and ZeRO stage, as JSON.

python host_reads.py ARGUMENTS OF PRETRAIN.PY, OR OF DISTILL.PY WITH --teacher
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.distill.task import distillation
from litebert.objectives import Objective, PretrainingObjective
from litebert.recipe import parse_command
from litebert.train.engine import Engine
from litebert.train.initial import initial_model
from litebert.train.world import World, join_world


class Reads(TorchDispatchMode):
    """Counts reads of a tensor's value: item(), float(), bool()."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads(arguments: list[str], precision: str, stage: int, world: World) -> int:
    """Of the third step and the fourth; the ones before make what is made once."""
    distils = "--teacher" in arguments
    command = parse_command(arguments, "", distils=distils)
    corpus = Corpus.opened(command.data, "train")
    objective: Objective
    if distils:
        objective = distillation(command, corpus, world).objective()
    else:
        objective = PretrainingObjective(initial_model(command.recipe, corpus), command.recipe.objective)
    zero = {"stage": stage, "reduce_bucket_size": 1_000_000, "allgather_bucket_size": 1_000_000}
    engine = Engine(objective, command.recipe.optimizer, precision, {"zero_optimization": zero}, world)
    counted = 0
    for step in Loader(corpus, command.recipe.data, 0, 1, 0, 4):
        with Reads() as mode:
            for number, batch in enumerate(step.micro_batches, start=1):
                engine.backward(batch, number == len(step.micro_batches))
            engine.update(1e-3)
        counted += mode.count if step.number > 1 else 0
    return counted


if __name__ == "__main__":
    world = join_world()
    stages = {"fp32": range(4), "bf16": range(1, 4)}  # stage 0 is for fp32 alone
    print(json.dumps({p: {stage: reads(sys.argv[1:], p, stage, world) for stage in of} for p, of in stages.items()}))
    sys.stdout.flush()
    os._exit(0)
