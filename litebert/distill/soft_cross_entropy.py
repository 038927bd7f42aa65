"""A student's losses on masked words, hard and soft, from logits that are computed once, a few rows at a time.

Shape suffixes: M = rows, C = rows of a chunk, E = width, V = vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from litebert.distill.targets import Distribution, Targets
from litebert.model.cross_entropy import CHUNK, Judged, linear_criterion

# How many chunks are made of the hard loss's on a CPU. Several buffers as large as its come from fresh pages each time
# (glibc reuses none of 32 MB or more): of a quarter, the losses took half the time in bf16, and nine tenths in fp32
# (E = 128, V = 21128). Errors of a quarter, each multiplied by itself, took a third more than together (E = 768).
CPU_CHUNKS = 4


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
    chunk: int | None = None,
) -> SoftLosses:
    """The losses of the student's logits ``linear(rows, weight, bias)``.

    The soft one is DistilBERT's (Sanh et al. 2019; Hinton et al. 2015): its gradient is that of the soft
    cross-entropy, from which it differs by the teacher's entropy. T^2 keeps its gradient as large at any temperature.

    Args:
        labels_M: int64, each row's right word; negative where it has none, and is left out of mlm and right.
        targets: of the same M rows.
        temperature: by which both sides' logits are divided, in the soft loss alone.
        chunk: how many logits of the student exist at a time; None: as many as suit the device.

    Raises ValueError where the targets do not hold at the temperature.
    """

    def criterion(logits_CV: Tensor, rows: slice, with_gradient: bool) -> Judged:
        labels_C1 = labels_M[rows, None]
        told_C1 = labels_C1 >= 0
        hard = Distribution.of(logits_CV)
        right = (hard.best_C1 == labels_C1).sum()
        labels_C1 = labels_C1.clamp(min=0)
        mlm = -(hard.logs(labels_C1) * told_C1).sum()

        soft = hard if temperature == 1 else Distribution.of(logits_CV / temperature)
        score = targets.score(rows, soft, temperature)
        agreed = (hard.best_C1 == score.best_C1).sum()
        kl = temperature**2 * score.kl
        totals = mlm_weight * mlm + ce_weight * kl, mlm, kl, right, agreed
        if not with_gradient:
            return Judged(totals, None)

        of_mlm_C1 = mlm_weight * told_C1.to(logits_CV.dtype)
        of_kl = ce_weight * temperature
        if soft is hard:
            errors_CV = hard.probabilities_CV.mul_(of_mlm_C1 + of_kl * score.mass)
        else:
            errors_CV = soft.probabilities_CV.mul_(of_kl * score.mass).addcmul_(hard.probabilities_CV, of_mlm_C1)
        if score.ids_CN is None:
            errors_CV.sub_(score.expected, alpha=of_kl)
        else:
            errors_CV.scatter_add_(1, score.ids_CN, -of_kl * score.expected)
        return Judged(totals, errors_CV.scatter_add_(1, labels_C1, -of_mlm_C1))

    together = CPU_CHUNKS if chunk is None and rows_ME.device.type == "cpu" else 1
    chunk = CHUNK // together if chunk is None else chunk
    return SoftLosses(*linear_criterion(rows_ME, weight_VE, bias_V, criterion, chunk, together))
