"""Distils a teacher: deepspeed launcher/distill.py --config RECIPE --data SHARDS --teacher MODEL --run RUN

The teacher is a run of launcher/pretrain.py, one of its checkpoints, or a Hugging Face folder of a BERT, RoBERTa-zh,
ALBERT or DistilBERT with a masked-word head, of the vocabulary that the shards were built with. Of several,
--teacher A B, the probabilities are averaged.

--soft SOFT instead of it learns from answers that launcher/teach.py kept; with --teacher beside it, the student begins
as that teacher, which is not asked again. --fleet FLEET learns from answers that are sent by all teachers which
launcher/teach.py --serve FLEET announces in that folder, or at grpc://HOST:PORT; they may come and go.

Stopping, going on, --profile and exit codes are those of launcher/pretrain.py.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from litebert.train.stopping import StopRequest, leave_on_signals

if __name__ == "__main__":
    leave_on_signals()  # the imports below take seconds

from litebert.distill.task import distillation
from litebert.recipe import Command
from litebert.train import session
from litebert.train.world import World


def distill(command: Command, world: World, stop: StopRequest) -> int:
    """Trains a run; returns the exit code, and raises, as ``session.train``."""
    return session.train(command, distillation, world, stop)


def main(argv: list[str]) -> NoReturn:
    """Runs a command line and leaves the process."""
    session.main("distill", argv, "Distils a teacher into a student.", distillation, distils=True)


if __name__ == "__main__":
    main(sys.argv[1:])
