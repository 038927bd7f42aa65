"""A student's losses on masked words, hard and soft, from logits that are computed once, a few rows at a time.

Shape suffixes: M = rows, C = rows of a chunk, E = width, V = vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from litebert.distill.targets import Targets
from litebert.model.cross_entropy import CHUNK, Judged, linear_criterion


class SoftLosses(NamedTuple):
    """Sums over rows, 0-d; only the loss has a gradient.

    Attributes:
        loss: mlm and kl, weighted.
        mlm: cross-entropy of the labels, nats.
        kl: T^2 KL(teacher || student), both at temperature T, nats: 0 where the student says what the teacher does.
        right: int64, of how many rows the label has the student's highest logit.
        agreed: int64, of how many rows student and teacher have the highest logit at the same word.
    """

    loss: Tensor
    mlm: Tensor
    kl: Tensor
    right: Tensor
    agreed: Tensor


def soft_linear_cross_entropy(
    rows_ME: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor,
    labels_M: Tensor,
    targets: Targets,
    temperature: float = 1.0,
    mlm_weight: float = 1.0,
    ce_weight: float = 1.0,
    chunk: int = CHUNK,
) -> SoftLosses:
    """The losses of the student's logits ``linear(rows, weight, bias)``.

    The soft one is DistilBERT's (Sanh et al. 2019; Hinton et al. 2015): its gradient is that of the soft
    cross-entropy, from which it differs by the teacher's entropy. T^2 keeps its gradient as large at any temperature.

    Args:
        labels_M: int64, each row's right word; negative where it has none, and is left out of mlm and right.
        targets: of the same M rows.
        temperature: by which both sides' logits are divided, in the soft loss alone.
        chunk: how many logits of the student exist at a time.

    Raises ValueError where the targets do not hold at the temperature.
    """

    def criterion(logits_CV: Tensor, rows: slice, with_gradient: bool) -> Judged:
        labels_C1 = labels_M[rows, None]
        told_C1 = labels_C1 >= 0
        logs_CV = logits_CV.log_softmax(-1)
        best_C1 = logs_CV.argmax(-1, keepdim=True)
        right = (best_C1 == labels_C1).sum()
        labels_C1 = labels_C1.clamp(min=0)
        mlm = -(logs_CV.gather(1, labels_C1) * told_C1).sum()

        soft_CV = logs_CV if temperature == 1 else (logs_CV / temperature).log_softmax(-1)
        divergence, teacher_best_C, errors_CV = targets.score(rows, soft_CV, temperature, with_gradient)
        kl = temperature**2 * divergence
        agreed = (best_C1[:, 0] == teacher_best_C).sum()
        if errors_CV is not None:
            weights_C1 = mlm_weight * told_C1.to(logs_CV.dtype)
            errors_CV.mul_(ce_weight * temperature).addcmul_(logs_CV.exp_(), weights_C1)
            errors_CV.scatter_add_(1, labels_C1, -weights_C1)
        return Judged((mlm_weight * mlm + ce_weight * kl, mlm, kl, right, agreed), errors_CV)

    return SoftLosses(*linear_criterion(rows_ME, weight_VE, bias_V, criterion, chunk))
