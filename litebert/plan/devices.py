"""What devices can do: by their makers' data sheets, without sparsity, or measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch

from litebert.model.encoder import ModelConfig
from litebert.plan.processor import processor

TRIES = 5


@dataclasses.dataclass(frozen=True)
class Device:
    """A device, and what joins it to others.

    Attributes:
        name: part of what torch calls it.
        memory: bytes.
        bf16, fp32: matrix products, in operations per second; fp32 without TF32.
        bandwidth: of its memory, in bytes per second.
        link: to other devices of a node, in bytes per second and direction.
        network: to other nodes, likewise, a device's share.
        matrix_share: of the matrix rate that products of these shapes reach.
        traffic_share: of the bandwidth that elementwise kernels reach.
        passes: times that what the forward keeps goes through memory: written, read, and its gradient with what it
            reads; 0 where matrix_share was measured with all of that.
        launch: seconds between two kernels.
        taken: bytes of memory that the driver and libraries take for themselves.
    """

    name: str
    memory: float
    bf16: float
    fp32: float
    bandwidth: float
    link: float
    network: float
    matrix_share: float = 0.65
    traffic_share: float = 0.75
    passes: float = 5.0
    launch: float = 3e-6
    taken: float = 1.5e9

    @property
    def on_cpu(self) -> bool:
        """Whether it is a processor that shares its memory with everything else."""
        return self.name == "cpu"

    def rate(self, precision: str) -> float:
        """Of matrix products in a precision."""
        return self.bf16 if precision == "bf16" else self.fp32


DEVICES = {
    device.name: device
    for device in (
        Device("H200", 141e9, 989e12, 67e12, 4.8e12, 450e9, 50e9),
        Device("H100", 80e9, 989e12, 67e12, 3.35e12, 450e9, 50e9),
        Device("A100", 80e9, 312e12, 19.5e12, 2.04e12, 300e9, 25e9),
        Device("L40S", 48e9, 362e12, 91.6e12, 0.86e12, 32e9, 25e9),
        Device("RTX 4090", 24e9, 165e12, 82.6e12, 1.01e12, 32e9, 12e9),
        Device("RTX 3090", 24e9, 71e12, 35.6e12, 0.94e12, 16e9, 12e9),
    )
}


def device_called(name: str) -> Device | None:
    """The device that torch calls so, if it is in the table."""
    return next((device for key, device in DEVICES.items() if key in name), None)


def name_of(device: torch.device) -> str:
    """What its maker calls a device of this machine; processors included."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else processor()


def matrix_rate(config: ModelConfig, precision: str, tokens: int, device: torch.device) -> float:
    """Operations per second of the feed-forward block's product, [tokens, H] by [H, I]: the best of some tries."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.ones(tokens, config.hidden_size, dtype=dtype, device=device)
    b = torch.ones(config.hidden_size, config.intermediate_size, dtype=dtype, device=device)
    a @ b
    return 2 * tokens * b.numel() / min(seconds_of(lambda: a @ b, device) for _ in range(TRIES))


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """That some work takes, to its end on the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    begun = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begun


def peak_rate(config: ModelConfig, precision: str, tokens: int, device: torch.device) -> float:
    """Operations per second that a device is said to do; measured, where it is not in the table."""
    known = device_called(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return known.rate(precision) if known else matrix_rate(config, precision, tokens, device)
