"""Cross-entropy over a vocabulary, a few rows at a time: the logits of all rows never exist together.

The gradients of a row's loss are known as soon as its logits are, so the forward takes them there and then, and the
backward only scales them (Wijmans et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models"; Hsu et al. 2024,
"Liger Kernel"). This costs the multiplications that it costs to keep all logits, and no memory that grows with M x V.

Shape suffixes: M = rows, C = rows of a chunk, E = width, V = vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits of a chunk, 32 MB in fp32. On a CPU a quarter of it is as fast at E = 128 and slower at 768, and twice as much
# is the reverse.
CHUNK = 2**23


@torch.compiler.disable  # every step has another number of rows: traced, each number of chunks would be compiled anew
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
    with_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (rows_ME, weight_VE, bias_V))
    loss, right = _LinearCrossEntropy.apply(rows_ME, weight_VE, bias_V, labels_M, chunk, with_gradient)
    return loss, right


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows_ME: Tensor, weight_VE: Tensor, bias_V: Tensor, labels_M: Tensor, chunk: int, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        # Sums of thousands of terms: in bf16 the small ones would be lost.
        exact = torch.promote_types(rows_ME.dtype, torch.float32)
        loss = rows_ME.new_zeros((), dtype=exact)
        right = labels_M.new_zeros(())
        gradients = []
        if with_gradient:
            of_rows_ME = torch.empty_like(rows_ME)
            of_weight_VE, of_bias_V = (torch.zeros_like(x, dtype=exact) for x in (weight_VE, bias_V))
            gradients = [of_rows_ME, of_weight_VE, of_bias_V]
        size = max(1, chunk // len(weight_VE))
        for begin in range(0, len(rows_ME), size):
            rows_CE, labels_C1 = rows_ME[begin : begin + size], labels_M[begin : begin + size, None]
            logs_CV = F.linear(rows_CE, weight_VE, bias_V).to(exact).log_softmax(-1)
            right += (logs_CV.argmax(-1, keepdim=True) == labels_C1).sum()
            loss -= logs_CV.gather(1, labels_C1).sum()
            if with_gradient:
                errors_CV = logs_CV.exp_().scatter_add_(1, labels_C1, logs_CV.new_full(labels_C1.shape, -1))
                of_bias_V += errors_CV.sum(0)
                errors_CV = errors_CV.to(rows_ME.dtype)
                torch.mm(errors_CV, weight_VE, out=of_rows_ME[begin : begin + size])
                of_weight_VE += errors_CV.t() @ rows_CE
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_rows_ME, of_weight_VE, of_bias_V = ctx.saved_tensors
        dtype = of_rows_ME.dtype
        return (
            of_rows_ME * scale.to(dtype),
            (of_weight_VE * scale).to(dtype),
            (of_bias_V * scale).to(dtype),
            *[None] * 3,
        )
