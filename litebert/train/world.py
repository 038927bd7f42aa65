"""The processes of a run: joining them up, and letting a signal to any of them stop all at the same step."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import signal
import socket
import warnings
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
CONTROL_TIMEOUT = datetime.timedelta(minutes=30)


@dataclasses.dataclass(frozen=True)
class World:
    """This process among all of them.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: where its tensors live.
        control: a gloo group for small things on the host, so that agreeing on them never waits for a GPU.
    """

    rank: int
    size: int
    device: torch.device
    control: Any

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and does the talking."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits for all processes."""
        dist.barrier(self.control)

    def total(self, numbers: torch.Tensor) -> None:
        """Sums a tensor on the host over all processes, in place."""
        dist.all_reduce(numbers, group=self.control)

    def broadcast(self, number: int) -> int:
        """Rank 0's number, on every rank."""
        tensor = torch.tensor([number], dtype=torch.int64)
        dist.broadcast(tensor, src=0, group=self.control)
        return int(tensor.item())


def join_world() -> World:
    """Joins the processes that a launcher started (RANK, WORLD_SIZE, ... in the environment), or stands
    alone.

    DeepSpeed reads DS_ACCELERATOR when it is first imported, so that is here.
    """
    on_gpu = torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" not in os.environ:
        alone = {
            "RANK": 0,
            "LOCAL_RANK": 0,
            "WORLD_SIZE": 1,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": _free_port(),
        }
        os.environ.update({key: str(value) for key, value in alone.items()})
    import deepspeed

    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's calls
    deepspeed.utils.logger.setLevel(logging.ERROR)
    # On a CPU its first use compiles for a minute, for a collective that training never calls.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    local_rank = int(os.environ["LOCAL_RANK"])
    if on_gpu:
        torch.cuda.set_device(local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        ranks_here = int(os.environ.get("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", 1)))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here))
    deepspeed.init_distributed(verbose=False)
    return World(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        device=torch.device("cuda", local_rank) if on_gpu else torch.device("cpu"),
        control=dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT),
    )


class StopRequest:
    """Catches the signals that ask a run to stop, and spreads the request to all ranks.

    As a context it holds the signals off for as long as it is entered: the first one is noted, and more of
    them change nothing, because launchers send several and a checkpoint must not be cut short by the second.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked = False
        self._pending: tuple[torch.Tensor, Any] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        self._previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Whether all ranks stop here; every rank calls this once a step, and gets the same answer.

        The answer is to what was asked up to the call before: the vote has had a whole step to travel by
        then.
        """
        agreed = self._counted()
        vote = torch.tensor([self._asked], dtype=torch.int32)
        work = dist.all_reduce(vote, dist.ReduceOp.MAX, group=self._world.control, async_op=True)
        self._pending = (vote, work)
        return agreed

    def _counted(self) -> bool:
        if self._pending is None:
            return False
        vote, work = self._pending
        work.wait()
        return bool(vote.item())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
