"""One rank of a test: runs several training commands in turn in one process group, which is costly to start.

    python worker.py JOBS RESULTS      with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT in the
    environment

JOBS is a JSON list of {"arguments": [...], "stop_after": step or null, "sabotage": fields of Sabotage, "rubbish":
whether memory that torch hands out is full of nan, "spare": for each rank, bytes}; a job with a --teacher, --soft or
--fleet is a distillation; one with spare bytes only finds out how many tokens a rank that had so many more would take
at once. Rank 0 writes a list of outcomes to RESULTS: an exit code, or the text of the error that was raised; or those
tokens, and the bytes that were given, of every rank.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psutil
import torch

from launcher.distill import distill
from launcher.pretrain import pretrain, pretraining
from litebert.data.corpus import Corpus
from litebert.recipe import parse_command
from litebert.train.ds_config import read_ds_config
from litebert.train.session import cache_of
from litebert.train.sizing import most_tokens
from litebert.train.stopping import StopRequest
from litebert.train.world import World, join_world
from tests.distributed.sabotage import Sabotage


class StopAfter(StopRequest):
    """A request to stop that comes so that the run stops after a number of steps: it is heard a step later."""

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self._left = steps

    @property
    def asked(self) -> bool:
        if self._left is not None:
            self._left -= 1
        return self._left is not None and self._left < 2


def sizes(arguments: list[str], spare: list[int], world: World) -> str:
    """How many tokens at once each rank would take, and of how many bytes: JSON, a list for each rank."""
    command = parse_command(arguments, "test")
    recipe = command.recipe
    corpus = Corpus.opened(command.data, "train", cache_of(recipe))
    objective = pretraining(command, corpus, world).objective
    ds_config = read_ds_config(Path(recipe.train.ds_config), recipe.train.precision)
    memory = psutil.Process().memory_info().rss + spare[world.rank]
    tokens, _ = most_tokens(recipe, corpus, objective, ds_config, world, memory=memory)
    return f"[{', '.join(world.control.gather(json.dumps([tokens, memory])))}]"


def outcome(job: dict, world: World) -> int | str:
    """Runs one job."""
    torch.use_deterministic_algorithms(job.get("rubbish", False), warn_only=True)
    try:
        if "spare" in job:
            return sizes(job["arguments"], job["spare"], world)
        sabotage = Sabotage(**job.get("sabotage", {}))
        with sabotage.applied(world.rank):
            distils = not {"--teacher", "--soft", "--fleet"}.isdisjoint(job["arguments"])
            command = parse_command(job["arguments"], "test", distils=distils)
            return (distill if distils else pretrain)(command, world, StopAfter(job.get("stop_after")))
    except (ValueError, OSError, FloatingPointError) as error:
        return str(error)


if __name__ == "__main__":
    world = join_world()
    outcomes = [outcome(job, world) for job in json.loads(Path(sys.argv[1]).read_text())]
    world.control.barrier()
    if world.leads:
        Path(sys.argv[2]).write_text(json.dumps(outcomes))
    sys.stdout.flush()
    os._exit(0)
