"""Which device is which, and what it is measured with."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from litebert.model.presets import PRESETS
from litebert.plan.devices import CALLED, DEVICES, device_called, matrix_rate


@pytest.mark.parametrize(
    ("name", "memory", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 80e9, 989e12),
        ("NVIDIA H100 PCIe", 80e9, 756e12),
        ("NVIDIA H100 NVL", 94e9, 835e12),
        ("NVIDIA A100-SXM4-80GB", 80e9, 312e12),
        ("NVIDIA A100-PCIE-40GB", 40e9, 312e12),
    ],
)
def test_devices_of_a_family_are_told_apart(name: str, memory: float, bf16: float) -> None:
    device = device_called(name)
    assert device and (device.memory, device.bf16) == (memory, bf16)


@pytest.mark.parametrize(
    "name",
    ["NVIDIA GH200 480GB", "NVIDIA H200 NVL", "NVIDIA GeForce RTX 4090 D", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"],
)
def test_a_device_that_is_not_in_the_table_is_no_other(name: str) -> None:
    assert device_called(name) is None


def test_every_device_of_the_table_can_be_met() -> None:
    assert set(CALLED.values()) == DEVICES.keys()


def test_the_matrix_rate_is_that_of_random_numbers() -> None:
    """A device that is short of power is faster at constants."""
    operands: list[torch.Tensor] = []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            if function is torch.ops.aten.mm.default:
                operands.extend(arguments)
            return function(*arguments, **(options or {}))

    config = dataclasses.replace(PRESETS["albert-tiny"], hidden_size=96, intermediate_size=64)
    with Products():
        assert matrix_rate(config, "fp32", 32, torch.device("cpu")) > 0
    assert operands and all(len(each.unique()) > each.numel() / 2 for each in operands)
