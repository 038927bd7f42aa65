"""On a GPU codecs and losses say what they say on a CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from litebert.distill.codecs import CodecConfig, codec_of
from litebert.distill.losses import pair_loss
from litebert.distill.soft_cross_entropy import soft_linear_cross_entropy
from tests.litebert.distill.test_codecs import TEACHER, every_codec, head_of, hidden_of, uniforms_of
from tests.litebert.distill.test_losses import LOSSES, PAIRED, Loss
from tests.litebert.distill.test_soft_cross_entropy import CE_WEIGHT, KINDS, MLM_WEIGHT, VOCAB, Case

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def moved(value: Any) -> Any:
    """To the GPU: tensors, and whatever is made of them."""
    if isinstance(value, Tensor):
        return value.detach().to(DEVICE).requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        return type(value)(map(moved, value))
    if isinstance(value, dict):
        return {name: moved(each) for name, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{name: moved(each) for name, each in vars(value).items()})
    return value


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Tensors of the GPU, or what is made of them, and those of the CPU."""
    if isinstance(expected, Tensor):
        assert found.device.type == DEVICE and found.dtype == expected.dtype
        torch.testing.assert_close(found.cpu(), expected, atol=tolerance, rtol=tolerance)
    elif isinstance(expected, list | tuple):
        for one, other in zip(found, expected, strict=True):
            close(one, other, tolerance)
    elif dataclasses.is_dataclass(expected):
        close([*vars(found).values()], [*vars(expected).values()], tolerance)
    else:
        assert found == expected


@every_codec
def test_a_codec_keeps_the_same(config: CodecConfig) -> None:
    """But where sums in another order tip a rounding, by one step; or, seldom, one word for another as likely."""
    codec, rows = codec_of(config, TEACHER), 400
    here = codec.encode(head_of(), hidden_of(rows), uniforms_of(rows))
    there = codec.encode(head_of(device=DEVICE), moved(hidden_of(rows)), moved(uniforms_of(rows)))
    assert here.keys() == there.keys()
    for name, column in here.items():
        found = there[name]
        assert found.device.type == DEVICE and (found.dtype, found.shape) == (column.dtype, column.shape)
        if column.dtype.is_floating_point:
            torch.testing.assert_close(found.cpu(), column, rtol=2e-3, atol=1e-5)
        else:
            apart = (found.cpu().long() - column.long()).abs()
            assert (apart > (0 if name in ("ids", "best") else 1)).double().mean() < 2e-3, name


@every_codec
def test_a_codec_gives_back_the_same(config: CodecConfig) -> None:
    codec = codec_of(config, TEACHER)
    columns = codec.encode(head_of(), hidden_of(50), uniforms_of(50))
    here, there = codec.decode(columns, head_of()), codec.decode(moved(columns), head_of(device=DEVICE))
    close(there.targets, here.targets, 1e-5)
    close(there.hidden_MH, here.hidden_MH, 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_losses_of_words_and_their_gradients_are_the_same(kind: str, temperature: float) -> None:
    """In float64, a few rows at a time."""
    case = Case(torch.float64)
    given: tuple[Any, ...] = (case.student, case.labels_M, KINDS[kind][0](case, temperature))
    both = []
    for (rows_ME, weight_VE, bias_V), labels_M, targets in (given, moved(given)):
        losses = soft_linear_cross_entropy(
            rows_ME, weight_VE, bias_V, labels_M, targets, temperature, MLM_WEIGHT, CE_WEIGHT, chunk=7 * VOCAB + 1
        )
        both.append([*losses, *torch.autograd.grad(losses.loss, [rows_ME, weight_VE, bias_V])])
    here, there = both
    close(there, [each.detach() for each in here], 1e-11)


def pairs(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    return pair_loss(student[0], teacher[0], PAIRED.to(student[0].device), 3.0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_other_losses_and_their_gradients_are_the_same(name: str) -> None:
    loss, _, count, *shapes = LOSSES[name]
    of: Loss = pairs if name == "pairs" else loss
    generator = torch.Generator().manual_seed(8)
    student, teacher = (
        [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)] for shape in shapes
    )
    student = [x.requires_grad_() for x in student]
    both = []
    for own, its in ((student, teacher), (moved(student), moved(teacher))):
        found = of(own, its)
        both.append([found.detach(), *torch.autograd.grad(found, own)])
    here, there = both
    close(there, here, 1e-11)
