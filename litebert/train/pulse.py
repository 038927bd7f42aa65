"""What ranks tell each other each step, without anyone waiting: who is asked to stop, and how the loss is."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from litebert.train.world import Channel


@dataclasses.dataclass(frozen=True)
class Heard:
    """What has come in.

    Attributes:
        stop: whether any rank was asked to stop.
        losses: (step, loss over all ranks) of steps that were not heard of before, in order.
    """

    stop: bool
    losses: list[tuple[int, float]]


class Pulse:
    """Sums numbers of all ranks behind the back of training.

    A loss has one step to come from the device to the host, and one to travel between hosts; so what is heard at
    a step is of two steps before it, at every rank the same, and neither device nor host was waited for.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._copied: tuple[int, Tensor, Any] | None = None
        self._sent: tuple[int | None, Tensor, Any] | None = None

    def beat(self, step: int, loss: Tensor | None, asked: bool) -> Heard:
        """One step; collective.

        Args:
            step: its number.
            loss: 0-d on the device, this rank's share of its loss; None, on every rank, where there is none.
            asked: whether this rank is asked to stop.
        """
        heard = self._receive()
        self._send(asked)
        if loss is not None:
            self._copy(step, loss)
        return heard

    def drain(self) -> list[tuple[int, float]]:
        """The losses that are still on their way, waited for; collective."""
        losses = self._receive().losses
        self._send(asked=False)
        return losses + self._receive().losses

    def _copy(self, step: int, loss: Tensor) -> None:
        if loss.is_cuda:
            host = torch.empty((), dtype=torch.float64, pin_memory=True)
            host.copy_(loss, non_blocking=True)
            landed = torch.cuda.Event()
            landed.record()
            self._copied = step, host, landed
        else:
            self._copied = step, loss.double(), None

    def _send(self, asked: bool) -> None:
        step, loss = None, 0.0
        if self._copied:
            step, host, landed = self._copied
            if landed:
                landed.synchronize()
            loss = float(host)
            self._copied = None
        numbers = torch.tensor([float(asked), loss], dtype=torch.float64)
        self._sent = step, numbers, dist.all_reduce(numbers, group=self._channel.group, async_op=True)

    def _receive(self) -> Heard:
        if self._sent is None:
            return Heard(False, [])
        step, numbers, work = self._sent
        work.wait()
        self._sent = None
        asking, loss = numbers.tolist()
        return Heard(asking > 0, [] if step is None else [(step, loss)])
