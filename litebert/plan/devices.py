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
        name: by which it is asked for; what torch calls it is in ``CALLED``.
        memory: bytes.
        bf16, fp32: matrix products, in operations per second; fp32 without TF32.
        bandwidth: of its memory, in bytes per second.
        link: to other devices of a node, in bytes per second and direction.
        network: to other nodes, likewise, a device's share.
        matrix_share: of the matrix rate that products of these shapes reach.
        traffic_share: of the bandwidth that elementwise kernels reach.
        passes: times that what the forward keeps goes through memory: written, read, and its gradient with what it
            reads; 0 where matrix_share was measured with all of that.
        launch: seconds between two kernels; where it was measured, all that a micro-batch costs by itself, by kernels.
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
        Device("H100 NVL", 94e9, 835e12, 60e12, 3.9e12, 64e9, 50e9),
        Device("H100 PCIe", 80e9, 756e12, 51e12, 2.0e12, 64e9, 50e9),
        Device("A100", 80e9, 312e12, 19.5e12, 2.04e12, 300e9, 25e9),
        Device("A100 40GB", 40e9, 312e12, 19.5e12, 1.56e12, 300e9, 25e9),
        Device("A100 PCIe", 80e9, 312e12, 19.5e12, 1.94e12, 32e9, 25e9),
        Device("A100 PCIe 40GB", 40e9, 312e12, 19.5e12, 1.56e12, 32e9, 25e9),
        Device("L40S", 48e9, 362e12, 91.6e12, 0.86e12, 32e9, 25e9),
        Device("RTX 4090", 24e9, 165e12, 82.6e12, 1.01e12, 32e9, 12e9),
        Device("RTX 3090", 24e9, 71e12, 35.6e12, 0.94e12, 16e9, 12e9),
    )
}
# Whole names: a GH200 is no H200, an RTX 4090 D no RTX 4090, and a slice of a device is called as the whole and more.
CALLED = {
    "NVIDIA H200": "H200",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 NVL": "H100 NVL",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA A100-SXM4-80GB": "A100",
    "NVIDIA A100-SXM4-40GB": "A100 40GB",
    "NVIDIA A100 80GB PCIe": "A100 PCIe",
    "NVIDIA A100-PCIE-40GB": "A100 PCIe 40GB",
    "NVIDIA L40S": "L40S",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "NVIDIA GeForce RTX 3090": "RTX 3090",
}


def device_called(name: str) -> Device | None:
    """The device that torch calls exactly so; None of one that is not in the table, which is to be measured."""
    return DEVICES[CALLED[name]] if name in CALLED else None


def name_of(device: torch.device) -> str:
    """What its maker calls a device of this machine; processors included."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else processor()


def computes_bf16(device: torch.device) -> bool:
    """Whether a device of this machine has instructions for bf16; without them it is emulated, far slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def matrix_rate(config: ModelConfig, precision: str, tokens: int, device: torch.device) -> float:
    """Operations per second of the feed-forward block's product, [tokens, H] by [H, I]: the best of some tries."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    chance = torch.Generator(device).manual_seed(0)  # constant operands draw less power, and may be faster for it
    a = torch.randn(tokens, config.hidden_size, dtype=dtype, device=device, generator=chance)
    b = torch.randn(config.hidden_size, config.intermediate_size, dtype=dtype, device=device, generator=chance)
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
