"""The processes of a run: joining them up, and what they say to each other beside training."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import socket
import warnings
from typing import Any

import torch
import torch.distributed as dist

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
        padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
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
    """

    rank: int
    size: int
    device: torch.device
    control: Channel
    saving: Channel
    watching: Channel

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and does the talking."""
        return self.rank == 0


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
    rank, size = dist.get_rank(), dist.get_world_size()
    control, saving, watching = (
        Channel(rank, size, dist.new_group(backend="gloo", timeout=timeout))
        for timeout in (CONTROL_TIMEOUT, CONTROL_TIMEOUT, FOREVER)
    )
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    return World(rank, size, device, control, saving, watching)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
