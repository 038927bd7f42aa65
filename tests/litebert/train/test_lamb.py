"""LAMB against its definition in fp64, on whole parameters and on slices of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from litebert.train.lamb import Lamb, Segment

LR, BETAS, EPS, DECAY, STEPS = 0.02, (0.9, 0.98), 1e-6, 0.1, 6
SHAPES = [(5, 7), (3, 3), (11,), (2, 6), (4,)]


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [[torch.randn(shape, generator=generator) for shape in SHAPES] for _ in range(STEPS)]


def lamb(of: list[nn.Parameter]) -> Lamb:
    matrices = {"params": [p for p in of if p.ndim > 1], "weight_decay": DECAY, "adapt": True}
    vectors = {"params": [p for p in of if p.ndim == 1], "weight_decay": 0.0, "adapt": False}
    return Lamb([matrices, vectors], lr=LR, betas=BETAS, eps=EPS)


def take(optimizer: torch.optim.Optimizer, of: Sequence[Tensor], step: list[Tensor]) -> None:
    for parameter, gradient in zip(of, step, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


def definition(steps: list[list[Tensor]]) -> tuple[list[list[float]], list[list[float]]]:
    """Parameters after all steps, flat, and the trust ratios of each step: number by number, in fp64."""
    found = [[float(x) for x in p.detach().flatten()] for p in parameters()]
    m = [[0.0] * len(x) for x in found]
    v = [[0.0] * len(x) for x in found]
    ratios: list[list[float]] = []
    for t, step in enumerate(steps, start=1):
        ratios.append([])
        for k, gradient in enumerate(step):
            decay = DECAY if gradient.ndim > 1 else 0.0
            update = []
            for i, g in enumerate(gradient.flatten().tolist()):
                m[k][i] = BETAS[0] * m[k][i] + (1 - BETAS[0]) * g
                v[k][i] = BETAS[1] * v[k][i] + (1 - BETAS[1]) * g * g
                root = math.sqrt(v[k][i] / (1 - BETAS[1] ** t))
                update.append(m[k][i] / (1 - BETAS[0] ** t) / (root + EPS) + decay * found[k][i])
            ratio = math.hypot(*found[k]) / math.hypot(*update) if gradient.ndim > 1 else 1.0
            if gradient.ndim > 1:
                ratios[-1].append(ratio)
            found[k] = [x - LR * ratio * u for x, u in zip(found[k], update, strict=True)]
    return found, ratios


def test_whole_parameters_follow_the_definition() -> None:
    trained = parameters()
    optimizer = lamb(trained)
    expected, ratios = definition(gradients())
    for step, expected_ratios in zip(gradients(), ratios, strict=True):
        take(optimizer, trained, step)
        assert optimizer.trust_ratios.tolist() == pytest.approx(expected_ratios, rel=1e-6)
    for parameter, numbers in zip(trained, expected, strict=True):
        assert parameter.flatten().tolist() == pytest.approx(numbers, rel=1e-5, abs=1e-6)


class Ranks:
    """Threads in the place of processes; ``total`` sums what they bring."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.brought: list[Tensor] = []

    def total(self, tensor: Tensor) -> None:
        self.brought.append(tensor.clone())
        self.barrier.wait()
        summed = torch.stack(self.brought).sum(0)
        if self.barrier.wait() == 0:
            self.brought.clear()
        self.barrier.wait()
        tensor.copy_(summed)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_slices_move_as_whole_parameters_do(size: int) -> None:
    """Each rank has a stretch of the flat matrices and one of the flat vectors, wherever that cuts them."""
    whole = parameters()
    optimizer = lamb(whole)
    for step in gradients():
        take(optimizer, whole, step)
    ranks, results = Ranks(size), {}
    threads = [threading.Thread(target=lambda r=r: results.update({r: on_slices(r, size, ranks)})) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of, ndim in ((0, 2), (1, 1)):
        joined = torch.cat([results[rank][of] for rank in range(size)])
        expected = torch.cat([p.detach().flatten() for p in whole if p.ndim == ndim])
        torch.testing.assert_close(joined[: len(expected)], expected, rtol=2e-7, atol=0)
    assert all(torch.equal(results[rank][2], results[0][2]) for rank in range(size))
    torch.testing.assert_close(results[0][2], optimizer.trust_ratios, rtol=1e-6, atol=0)


def on_slices(rank: int, size: int, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """What a rank's stretches come to, and the trust ratios that it knows of."""
    of = parameters()
    optimizer = lamb(of)
    slices: list[Tensor] = []
    segments: dict[Tensor, list[Segment]] = {}
    for group, ndim in zip(optimizer.param_groups, (2, 1), strict=True):
        own, inside = stretch([p.detach() for p in of if p.ndim == ndim], rank, size)
        slices.append(nn.Parameter(own))
        segments[slices[-1]] = [Segment(group["params"][number], start, numel) for number, start, numel in inside]
        group["params"] = [slices[-1]]
    optimizer.slice(segments, ranks.total)
    for step in gradients():
        cut = [stretch([g for g in step if g.ndim == ndim], rank, size)[0] for ndim in (2, 1)]
        take(optimizer, slices, cut)
    return slices[0].detach(), slices[1].detach(), optimizer.trust_ratios


def stretch(tensors: list[Tensor], rank: int, size: int) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """A rank's share of tensors laid flat, with rubbish for padding, and (number, start, numel) of each in it."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    length = -(-len(flat) // size)
    flat = nn.functional.pad(flat, (0, length * size - len(flat)), value=torch.nan)
    begin, end, offset, inside = rank * length, (rank + 1) * length, 0, []
    for number, tensor in enumerate(tensors):
        first, last = max(begin, offset), min(end, offset + tensor.numel())
        if first < last:
            inside.append((number, first - begin, last - first))
        offset += tensor.numel()
    return flat[begin:end].clone(), inside


def test_a_refused_step_changes_nothing_and_is_not_counted() -> None:
    trained, other = parameters(), parameters()
    one, two = lamb(trained), lamb(other)
    one.found_inf = torch.ones(())
    take(one, trained, [torch.full(shape, torch.nan) for shape in SHAPES])
    assert all(torch.equal(a, b) for a, b in zip(trained, other, strict=True))
    one.found_inf = torch.zeros(())
    for step in gradients():
        take(one, trained, step)
        take(two, other, step)
    assert all(torch.equal(a, b) for a, b in zip(trained, other, strict=True))
    assert {float(state["step"]) for state in one.state.values()} == {STEPS}


def test_gradients_are_divided_by_their_scale() -> None:
    trained, other = parameters(), parameters()
    one, two = lamb(trained), lamb(other)
    one.grad_scale = torch.tensor(4.0)
    take(one, trained, [4 * gradient for gradient in gradients()[0]])
    take(two, other, gradients()[0])
    assert all(torch.equal(a, b) for a, b in zip(trained, other, strict=True))


def test_zero_weights_and_zero_updates_are_not_scaled() -> None:
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = Lamb([{"params": [zero, still]}], lr=0.5, betas=BETAS, eps=EPS)
    take(optimizer, [zero, still], [torch.ones(2, 2), torch.zeros(2, 2)])
    assert optimizer.trust_ratios.tolist() == [1.0, 1.0]
    torch.testing.assert_close(zero.detach(), torch.full((2, 2), -0.5))
    assert torch.equal(still.detach(), torch.ones(2, 2))


def test_no_step_asks_the_device_for_a_number() -> None:
    """Fake tensors have no numbers: whatever reads one raises."""
    with FakeTensorMode():
        fake = [nn.Parameter(torch.empty(shape)) for shape in SHAPES]
        optimizer = lamb(fake)
        optimizer.found_inf, optimizer.grad_scale = torch.zeros(()), torch.ones(())
        take(optimizer, fake, [torch.empty(shape) for shape in SHAPES])
        with pytest.raises(DataDependentOutputException):
            optimizer.trust_ratios.tolist()
