"""LAMB, on whole parameters and on slices of them: the same numbers either way.

ZeRO hands an optimizer flat slices, each a rank's part of many parameters laid end to end. The norms that LAMB scales a
parameter's update by are of the whole parameter. So each rank squares and sums its segments, in fp64, and one
all-reduce makes whole norms of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a parameter in a flat slice.

    Attributes:
        parameter: the whole one, as the optimizer was first given it.
        start: index in the slice.
        numel: how long it is.
    """

    parameter: nn.Parameter
    start: int
    numel: int


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, arXiv 1904.00962, algorithm 2) with bias correction and decoupled weight decay.

    With m, v the moments of the gradient and x a parameter, at its t-th update

        u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * x
        x = x - lr * r * u,   r = |x| / |u|, or 1 where either norm is 0

    r, the trust ratio, has no bounds: phi of the paper is the identity, as in the code of ALBERT (Lan et al. 2020).
    That code leaves the bias correction out, which makes a difference in the first steps only. A group with ``adapt``
    False has r = 1: there, biases and norms. A stacked parameter, as an attention block's query, key and value are, has
    one ratio of its own; that code, which keeps them apart, has three.

    The device decides everything: no step waits for it.

    Attributes:
        grad_scale: 0-d: what gradients are to be divided by, as torch's fused optimizers do; None for 1.
        found_inf: 0-d: 1 if the next step is to change nothing, likewise.
        trust_ratios: fp64 [parameters that are adapted], in their order: r of the last step.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
    ) -> None:
        """Args:
        params: groups of contiguous fp32 parameters, with "adapt" and, where it is another, "weight_decay".
        lr, betas, eps, weight_decay: as above; 0 < eps.
        """
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": True}
        super().__init__(params, defaults)
        adapted = [p for group in self.param_groups if group["adapt"] for p in group["params"]]
        self._numbers = {parameter: number for number, parameter in enumerate(adapted)}
        self._total: Callable[[Tensor], None] | None = None
        self._place({p: [Segment(p, 0, p.numel())] for p in adapted}, self.param_groups[0]["params"][0].device)

    def slice(self, segments: Mapping[Tensor, Sequence[Segment]], total: Callable[[Tensor], None]) -> None:
        """Goes on with this rank's slices in the place of whole parameters.

        Args:
            segments: what lies in each 1-d slice that ``step`` will find in the place of parameters.
            total: sums a tensor over ranks, in place; every ``step`` of such a group calls it once.
        """
        self._total = total
        self._place(segments, next(iter(segments)).device)

    def _place(self, segments: Mapping[Tensor, Sequence[Segment]], device: torch.device) -> None:
        numbers = self._numbers
        self._segments = {
            tensor: [each for each in here if each.parameter in numbers] for tensor, here in segments.items()
        }
        self._where = {
            tensor: torch.tensor([numbers[each.parameter] for each in here], dtype=torch.int64, device=device)
            for tensor, here in self._segments.items()
        }
        self.trust_ratios = torch.ones(len(self._numbers), dtype=torch.float64, device=device)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: gradients are there
        """Takes a step with the gradients that there are."""
        moves = []
        for group in self.param_groups:
            tensors = [p for p in group["params"] if p.grad is not None]
            if tensors:
                moves.append((group, tensors, self._updates(group, tensors)))
        adapted = [pair for group, *both in moves if group["adapt"] for pair in zip(*both, strict=True)]
        if adapted:
            self._adapt(adapted)
        for group, tensors, updates in moves:
            torch._foreach_mul_(updates, torch.where(self._refused(updates[0]), 0.0, -group["lr"]))
            torch._foreach_add_(tensors, updates)

    def _updates(self, group: Mapping[str, Any], tensors: list[Tensor]) -> list[Tensor]:
        """Moves the moments on, and returns u of each tensor."""
        (beta1, beta2), eps = group["betas"], group["eps"]
        states = [self._state_of(tensor) for tensor in tensors]
        means, squares = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
        refused = self._refused(tensors[0])
        gradients = self._gradients(tensors, refused)
        torch._foreach_mul_(means, torch.where(refused, 1.0, beta1))
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, torch.where(refused, 1.0, beta2))
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        del gradients
        torch._foreach_add_([state["step"] for state in states], [torch.where(refused, 0.0, 1.0)] * len(states))
        counts = torch.stack([state["step"] for state in states]).double().clamp(min=1)  # 0 where the first is refused
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, list((1 - beta2**counts).sqrt().unbind()))
        torch._foreach_add_(denominators, eps)
        updates = torch._foreach_div(means, list((1 - beta1**counts).unbind()))
        torch._foreach_div_(updates, denominators)
        torch._foreach_add_(updates, tensors, alpha=group["weight_decay"])
        return list(updates)

    def _adapt(self, adapted: list[tuple[Tensor, Tensor]]) -> None:
        """Scales updates, segment by segment, by the trust ratios of whole parameters."""
        weights, updates = (
            [
                tensors[of].view(-1)[each.start : each.start + each.numel]
                for tensors in adapted
                for each in self._segments[tensors[0]]
            ]
            for of in (0, 1)
        )
        where = torch.cat([self._where[tensor] for tensor, _ in adapted])
        squares = torch.zeros(2, len(self._numbers), dtype=torch.float64, device=where.device)
        if weights:
            norms = [torch.stack(torch._foreach_norm(views, 2, dtype=torch.float64)) for views in (weights, updates)]
            squares[:, where] = torch.stack(norms).square()
        if self._total:
            self._total(squares)
        of_weight, of_update = squares.sqrt()
        ratios = torch.where(of_weight > 0, of_weight / of_update, 1.0)
        # ZeRO-3 may step one part of the parameters at a time; all others have no update here.
        self.trust_ratios = torch.where(of_update > 0, ratios, self.trust_ratios)
        torch._foreach_mul_(updates, list(self.trust_ratios[where].unbind()))

    def _state_of(self, tensor: Tensor) -> dict[str, Tensor]:
        state = self.state[tensor]
        if not state:
            state["step"] = torch.zeros((), device=tensor.device)
            state["exp_avg"] = torch.zeros_like(tensor)
            state["exp_avg_sq"] = torch.zeros_like(tensor)
        return state

    def _refused(self, like: Tensor) -> Tensor:
        """Whether the step is to change nothing: 0-d, bool."""
        if self.found_inf is None:
            return torch.zeros((), dtype=torch.bool, device=like.device)
        return self.found_inf > 0

    def _gradients(self, tensors: list[Tensor], refused: Tensor) -> list[Tensor]:
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        if self.grad_scale is not None:
            gradients = list(torch._foreach_div(gradients, self.grad_scale))
        return [torch.where(refused, 0.0, gradient) for gradient in gradients]
