"""Losses over a vocabulary, a few rows at a time: the logits of all rows never exist together.

The gradients of a row's loss are known as soon as its logits are, so the forward takes them there and then, and the
backward only scales them (Wijmans et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models"; Hsu et al. 2024,
"Liger Kernel"). This costs the multiplications that it costs to keep all logits, and no memory that grows with M x V.

Shape suffixes: M = rows, C = rows of a chunk, W = rows of several chunks, E = width,
V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits of a chunk, 32 MB in fp32. On a CPU a quarter of it is as fast at E = 128 and slower at 768, and twice as much
# is the reverse.
CHUNK = 2**23


class Judged(NamedTuple):
    """What a criterion says of a chunk's logits.

    Attributes:
        totals: 0-d each, summed over the rows; the first is the loss.
        errors_CV: the loss's gradient by the logits, or None where none was asked for.
    """

    totals: tuple[Tensor, ...]
    errors_CV: Tensor | None


# Judges the logits [C, V], of fp32 or more, of a slice of the rows; says errors only if told to. It may overwrite them.
Criterion = Callable[[Tensor, slice, bool], Judged]


def linear_criterion(
    rows_ME: Tensor, weight_VE: Tensor, bias_V: Tensor, criterion: Criterion, chunk: int = CHUNK, together: int = 1
) -> tuple[Tensor, ...]:
    """A criterion's totals over the logits ``linear(rows, weight, bias)``; the first of them has a gradient.

    Args:
        chunk: how many logits exist at a time.
        together: of how many chunks the errors, in the dtype of the rows, are multiplied at once: to sum up products of
            the weights' size takes as long as to make them.
    """
    with_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (rows_ME, weight_VE, bias_V))
    return _LinearCriterion.apply(rows_ME, weight_VE, bias_V, criterion, chunk, together, with_gradient)


def linear_cross_entropy(
    rows_ME: Tensor, weight_VE: Tensor, bias_V: Tensor, labels_M: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """The loss of the logits ``linear(rows, weight, bias)``, summed over rows, and how many rows they get right.

    Args:
        labels_M: int64, each row's right word.
        chunk: how many logits exist at a time.

    Returns:
        the loss in nats, 0-d, of at least fp32 whatever the logits are; and 0-d int64: of how many rows the right
        word has the highest logit, or is the first of those that have.
    """

    def criterion(logits_CV: Tensor, rows: slice, with_gradient: bool) -> Judged:
        labels_C1 = labels_M[rows, None]
        logs_CV = logits_CV.log_softmax(-1)
        right = (logs_CV.argmax(-1, keepdim=True) == labels_C1).sum()
        loss = -logs_CV.gather(1, labels_C1).sum()
        if not with_gradient:
            return Judged((loss, right), None)
        return Judged((loss, right), logs_CV.exp_().scatter_add_(1, labels_C1, logs_CV.new_full(labels_C1.shape, -1)))

    loss, right = linear_criterion(rows_ME, weight_VE, bias_V, criterion, chunk)
    return loss, right


@torch.no_grad()
def each_cross_entropy(
    rows_ME: Tensor, weight_VE: Tensor, bias_V: Tensor, labels_M: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """What `linear_cross_entropy` sums up, row by row and without gradients.

    Returns:
        losses in nats, [M], of at least fp32; and bool [M], whether the right word has the highest logit, or is the
        first of those that have.
    """
    exact = torch.promote_types(rows_ME.dtype, torch.float32)
    size = max(1, chunk // len(weight_VE))
    losses, right = [], []
    for rows_CE, labels_C in zip(rows_ME.split(size), labels_M.split(size), strict=True):
        logs_CV = F.linear(rows_CE, weight_VE, bias_V).to(exact).log_softmax(-1)
        losses.append(-logs_CV.gather(1, labels_C[:, None]).squeeze(1))
        right.append(logs_CV.argmax(-1) == labels_C)
    return torch.cat(losses), torch.cat(right)


class _LinearCriterion(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows_ME: Tensor,
        weight_VE: Tensor,
        bias_V: Tensor,
        criterion: Criterion,
        chunk: int,
        together: int,
        with_gradient: bool,
    ) -> tuple[Tensor, ...]:
        # Sums of thousands of terms: in bf16 the small ones would be lost.
        exact = torch.promote_types(rows_ME.dtype, torch.float32)
        gradients = []
        if with_gradient:
            of_rows_ME = torch.empty_like(rows_ME)
            of_weight_VE, of_bias_V = (torch.zeros_like(x, dtype=exact) for x in (weight_VE, bias_V))
            gradients = [of_rows_ME, of_weight_VE, of_bias_V]
        size = max(1, chunk // len(weight_VE))
        sums: tuple[Tensor, ...] = ()
        waiting: list[Tensor] = []
        for begin in range(0, max(1, len(rows_ME)), size):  # no rows are one chunk of none
            rows = slice(begin, begin + size)
            totals, errors_CV = criterion(F.linear(rows_ME[rows], weight_VE, bias_V).to(exact), rows, with_gradient)
            sums = tuple(map(torch.add, sums, totals)) if sums else totals
            if errors_CV is None:
                continue
            of_bias_V += errors_CV.sum(0)
            waiting.append(errors_CV.to(rows_ME.dtype))
            if len(waiting) == together or begin + size >= len(rows_ME):
                errors_WV = waiting[0] if len(waiting) == 1 else torch.cat(waiting)
                end = begin + len(waiting[-1])
                torch.mm(errors_WV, weight_VE, out=of_rows_ME[end - len(errors_WV) : end])
                of_weight_VE += errors_WV.t() @ rows_ME[end - len(errors_WV) : end]
                waiting = []
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*sums[1:])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        of_rows_ME, *others = ctx.saved_tensors
        # The scale is not rounded to bf16 first: 1 / masked tokens would be off by up to 0.4 %, of all rows alike.
        gradients = (of_rows_ME.to(scale.dtype), *others)
        return (*((gradient * scale).to(of_rows_ME.dtype) for gradient in gradients), *[None] * 4)
