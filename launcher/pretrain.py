"""Pretrains an encoder from shards: deepspeed launcher/pretrain.py --config RECIPE --data SHARDS --run RUN

SIGTERM, SIGUSR1, Ctrl-C and train.max_hours stop it with a checkpoint. Under the deepspeed command, signal the ranks or
deepspeed.launcher.launch, which passes SIGTERM on and kills after 30 s; the command itself passes nothing on, but if
it is gone the ranks stop as well. Another number of ranks may go on with a run, at any ZeRO stage.

Started by deepspeed, torchrun or srun, as slurm/pretrain.sh does, ranks wait for each other RENDEZVOUS_SECONDS, 300 if
that is not in the environment.

--check only sees whether the run could begin. --profile [STEPS] writes a trace of some steps to RUN/profile, for
Perfetto; the speed of their line is not the run's.

Exit codes: 0 all steps are done, 85 stopped (the same command goes on; without a new checkpoint only where no data
come, or nothing was begun), 2 something is wrong and said, 1 a rank or the launcher died. The deepspeed command has its
own ways: RUN/done.json tells whether all is done.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from litebert.train.stopping import StopRequest, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # the imports below take seconds

from litebert.data.corpus import Corpus
from litebert.objectives import PretrainingObjective
from litebert.plan.work import operations
from litebert.recipe import Command
from litebert.train import session
from litebert.train.initial import initial_model
from litebert.train.session import Task
from litebert.train.world import World


def pretraining(command: Command, corpus: Corpus, world: World) -> Task:
    """The recipe's model learns the recipe's objective from labels alone."""
    recipe = command.recipe
    shape = recipe.model_config(corpus.vocab_size)
    return Task(
        objective=lambda: PretrainingObjective(initial_model(recipe, corpus), recipe.objective),
        operations=lambda work: sum(operations(shape, work).values()),
    )


def pretrain(command: Command, world: World, stop: StopRequest) -> int:
    """Trains a run; returns the exit code, and raises, as ``session.train``."""
    return session.train(command, pretraining, world, stop)


def main(argv: list[str]) -> NoReturn:
    """Runs a command line and leaves the process."""
    session.main("pretrain", argv, "Pretrains an encoder from a folder of shards.", pretraining)


if __name__ == "__main__":
    main(sys.argv[1:])
