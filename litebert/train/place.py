"""Which of how many processes this one is, as its launcher tells: srun, or torchrun and deepspeed, or nobody.

It reads the environment and nothing else, so that it can be asked before torch is imported.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import zlib
from collections.abc import Mapping

SRUN, RANKED, ALONE = "srun", "a launcher", ""
# Below those that systems hand out by themselves, so that nobody holds one by chance.
_PORTS = range(12000, 32000)


@dataclasses.dataclass(frozen=True)
class Place:
    """This process among those that were started with it.

    Attributes:
        rank, size: its number, from 0, and how many there are.
        local_rank, local_size: the same among those of its machine.
        launcher: ``SRUN``, ``RANKED`` for one that sets RANK and WORLD_SIZE, or ``ALONE``.
        nodes: how many processes each node has, by its name, the first being rank 0's; only srun tells.
        node: the name of its own; only srun tells.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str = ALONE
    nodes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    node: str = ""

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Place:
        """That of this process. A launcher started by srun counts before it; a batch script is no step of srun.

        Raises ValueError where the variables of a launcher are no numbers, or contradict each other.
        """
        if "RANK" in environ:
            if "WORLD_SIZE" not in environ:
                raise ValueError("RANK is in the environment and WORLD_SIZE is not: set both, or neither")
            here = "LOCAL_SIZE" if "LOCAL_SIZE" in environ else "LOCAL_WORLD_SIZE"
            numbers = (number(environ, name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
            return cls._checked(*numbers, number(environ, here, 1), RANKED)
        if "SLURM_PROCID" not in environ or "SLURM_STEP_NUM_TASKS" not in environ:
            return cls()
        nodes = node_names(environ.get("SLURM_STEP_NODELIST", ""))
        counts = _counts(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        own = number(environ, "SLURM_NODEID")
        return cls._checked(
            number(environ, "SLURM_PROCID"),
            number(environ, "SLURM_STEP_NUM_TASKS"),
            number(environ, "SLURM_LOCALID"),
            counts[own] if own < len(counts) else 1,
            SRUN,
            dict(zip(nodes, counts, strict=False)),
            nodes[own] if own < len(nodes) else "",
        )

    @classmethod
    def _checked(cls, rank: int, size: int, *others: object) -> Place:
        if not 0 <= rank < size:
            raise ValueError(f"this is rank {rank} of {size}, says its launcher: ranks are numbered from 0")
        return cls(rank, size, *others)  # type: ignore[arg-type]


def number(environ: Mapping[str, str], name: str, default: int = 0) -> int:
    """What a variable says, or the default. Raises ValueError where that is no whole number."""
    text = environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name}={text} is in the environment, and is no whole number: set one") from None


def node_names(text: str) -> list[str]:
    """The names in one of Slurm's lists of nodes: rack[1-2]n[08-10],login."""
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        pieces = re.split(r"\[([^\]]*)\]", part)  # what brackets hold has the odd places
        choices = [_numbers(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
        names += map("".join, itertools.product(*choices))
    return names


def job_port(environ: Mapping[str, str] = os.environ) -> int:
    """A port that the ranks of a step of a Slurm job agree on without a word, and those of another hardly ever choose.

    A job that was requeued has another one: its ranks do not meet what is left of those before.
    """
    step = [environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    return _PORTS[zlib.crc32(".".join(step).encode()) % len(_PORTS)]


def came_back(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is of a job of Slurm's that was in the queue again."""
    return number(environ, "SLURM_RESTART_COUNT") > 0


def _numbers(ranges: str) -> list[str]:
    """1-3,07 one by one, with their leading zeros."""
    found = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return found


def _counts(text: str) -> list[int]:
    """2(x3),1 one by one."""
    found = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        found += [int(count)] * int(times or 1)
    return found
