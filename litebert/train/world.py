"""The processes of a run: joining them up, and what they say to each other beside training."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import warnings
from typing import Any

import torch
import torch.distributed as dist

from litebert.train.place import SRUN, Place
from litebert.train.rendezvous import described, meet

CONTROL_TIMEOUT = datetime.timedelta(minutes=30)
FOREVER = datetime.timedelta(days=3650)


@dataclasses.dataclass(frozen=True)
class Channel:
    """A gloo group of all processes, for small things on the host, so that agreeing on them never waits for a GPU.

    One thread of a process uses it at a time.

    Attributes:
        rank: of this process, from 0.
        size: how many processes there are.
        group: the process group.
    """

    rank: int
    size: int
    group: Any

    def barrier(self) -> None:
        """Waits for all processes."""
        dist.barrier(self.group)

    def send(self, tensor: torch.Tensor, rank: int) -> None:
        """Sends a tensor on the host to a rank that receives it."""
        dist.send(tensor, rank, group=self.group)

    def receive(self, tensor: torch.Tensor, rank: int) -> None:
        """Fills a tensor on the host with what a rank sends."""
        dist.recv(tensor, rank, group=self.group)

    def total(self, numbers: torch.Tensor) -> None:
        """Sums a tensor on the host over all ranks, in place."""
        dist.all_reduce(numbers, group=self.group)

    def broadcast(self, number: int) -> int:
        """Rank 0's number, on every rank."""
        tensor = torch.tensor([number], dtype=torch.int64)
        dist.broadcast(tensor, src=0, group=self.group)
        return int(tensor.item())

    def gather(self, text: str) -> list[str]:
        """The text of every rank, on every rank."""
        content = text.encode()
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(content)
        dist.all_reduce(sizes, group=self.group)
        padded = torch.zeros(max(1, int(sizes.max())), dtype=torch.uint8)
        if content:
            padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        parts = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        return [bytes(part[:size].tolist()).decode() for part, size in zip(parts, sizes.tolist(), strict=True)]


@dataclasses.dataclass(frozen=True)
class World:
    """This process among all of them.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: where its tensors live.
        control: for the training thread.
        saving: for the thread that saves.
        watching: for the threads that watch over each other.
        node: the name of its machine, where the launcher tells.
        meeting: on rank 0, where a launcher started the ranks, a line of how they talk.
    """

    rank: int
    size: int
    device: torch.device
    control: Channel
    saving: Channel
    watching: Channel
    node: str = ""
    meeting: str = ""

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and does the talking."""
        return self.rank == 0


def join_world(place: Place | None = None) -> World:
    """Joins the processes that a launcher started, or stands alone; rank 0 says how they talk.

    DeepSpeed reads DS_ACCELERATOR when it is first imported, so that is here. Raises as ``Place.here`` and ``meet``.
    """
    place = place or Place.here()
    on_gpu = torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"
    if on_gpu:  # of several that a node has, srun may show each rank its own alone
        place = dataclasses.replace(place, local_rank=place.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(place.local_rank)
    else:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(_threads(place))
    import deepspeed

    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's calls
    deepspeed.utils.logger.setLevel(logging.ERROR)
    # Of a table of what can be compiled DeepSpeed asks this alone. Filling the table would run a compiler, and using
    # the operation on a CPU compile for a minute, for a collective that training never calls.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})["deepspeed_shm_comm"] = False
    store = meet(place)
    deepspeed.init_distributed(verbose=False)
    del store
    meeting = ""
    if place.rank == 0 and place.launcher:
        meeting = described(place, dist.get_backend(), torch.get_num_threads())
        print(meeting, flush=True)
    control, saving, watching = (
        Channel(place.rank, place.size, dist.new_group(backend="gloo", timeout=timeout))
        for timeout in (CONTROL_TIMEOUT, CONTROL_TIMEOUT, FOREVER)
    )
    device = torch.device("cuda", place.local_rank) if on_gpu else torch.device("cpu")
    return World(place.rank, place.size, device, control, saving, watching, place.node, meeting)


def _threads(place: Place) -> int:
    """Cores for each rank: what srun was told, or an even share of what this process may use."""
    told = os.environ.get("SLURM_CPUS_PER_TASK", "") if place.launcher == SRUN else ""
    return int(told) if told else max(1, len(os.sched_getaffinity(0)) // place.local_size)
