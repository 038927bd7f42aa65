"""What a teacher says of masked words, whole or in part, and how far a student is from it.

Each kind of targets gives the divergence KL(teacher || student) of some rows, both at one temperature, and its
gradient by what enters the student's softmax. Log-probabilities are natural.

Shape suffixes: M = rows, C = rows of a chunk, D = width of the teacher's decoder, V = vocabulary, K = words kept,
N = words drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Score(NamedTuple):
    """How far a student is from the teacher on the rows of a chunk.

    Attributes:
        kl: 0-d, summed over rows, nats.
        best_C: int64, the teacher's likeliest words.
        errors_CV: the gradient of kl by the student's logits over the temperature, or None where none was asked for.
    """

    kl: Tensor
    best_C: Tensor
    errors_CV: Tensor | None


class Targets(Protocol):
    """A teacher's distributions over the vocabulary, one a row."""

    def score(self, rows: slice, logs_CV: Tensor, temperature: float, with_gradient: bool) -> Score:
        """The student's log-probabilities ``logs_CV``, at the temperature, beside these rows of the teacher.

        ValueError where the targets were made at another temperature.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """All of it: the distributions are the softmax of ``linear(rows, weight, bias)`` over the temperature.

    Attributes:
        rows_MD: what enters the teacher's decoder.
        weight_VD, bias_V: the decoder, of the same dtype as the rows.
    """

    rows_MD: Tensor
    weight_VD: Tensor
    bias_V: Tensor

    def logs(self, rows: slice, temperature: float, dtype: torch.dtype) -> Tensor:
        """Log-probabilities [C, V] of some rows."""
        logits_CV = F.linear(self.rows_MD[rows], self.weight_VD, self.bias_V).to(dtype)
        return logits_CV.div_(temperature).log_softmax(-1)

    def score(self, rows: slice, logs_CV: Tensor, temperature: float, with_gradient: bool) -> Score:
        return _whole(self.logs(rows, temperature, logs_CV.dtype), logs_CV, with_gradient)


@dataclass(frozen=True)
class Mean:
    """Several teachers: the mean of their probabilities, each at the temperature."""

    teachers: tuple[Dense, ...]

    def score(self, rows: slice, logs_CV: Tensor, temperature: float, with_gradient: bool) -> Score:
        each = (teacher.logs(rows, temperature, logs_CV.dtype) for teacher in self.teachers)
        return _whole(reduce(torch.logaddexp, each) - math.log(len(self.teachers)), logs_CV, with_gradient)


@dataclass(frozen=True)
class TopK:
    """The likeliest words, and all others taken together as one more class.

    The divergence is that of the K + 1 classes: at most the whole one, and equal to it where the student spreads what
    it gives to the others as the teacher does. So its gradient leaves the student's own spread over them alone.

    Attributes:
        ids_MK: int64, the likeliest first.
        logs_MK1: their log-probabilities, then that of all others together. They sum to one.
        temperature: at which they hold. The tail's mass at another could not be known.
    """

    ids_MK: Tensor
    logs_MK1: Tensor
    temperature: float

    def score(self, rows: slice, logs_CV: Tensor, temperature: float, with_gradient: bool) -> Score:
        _same(self.temperature, temperature)
        ids_CK, teacher_CK1 = self.ids_MK[rows], self.logs_MK1[rows].to(logs_CV.dtype)
        others_C1 = logs_CV.scatter(1, ids_CK, -math.inf).logsumexp(-1, keepdim=True)
        student_CK1 = torch.cat([logs_CV.gather(1, ids_CK), others_C1], 1)
        teacher_probabilities_CK1 = teacher_CK1.exp()
        kl = (teacher_probabilities_CK1 * (teacher_CK1 - student_CK1)).sum()
        errors_CV = None
        if with_gradient:
            # What the teacher gives to the others, spread as the student spreads it.
            expected_CV = (logs_CV + (teacher_CK1[:, -1:] - others_C1)).exp_()
            errors_CV = logs_CV.exp().sub_(expected_CV)
            errors_CV.scatter_(1, ids_CK, student_CK1[:, :-1].exp() - teacher_probabilities_CK1[:, :-1])
        return Score(kl, ids_CK[:, 0], errors_CV)


@dataclass(frozen=True)
class Sampled:
    """Words drawn from the teacher, weighted so that in expectation they are its distribution.

    The divergence and its gradient are those of the whole distribution in the mean over draws (Anshumann et al. 2025,
    "Sparse Logit Sampling").

    Attributes:
        ids_MN: int64, with repetitions.
        weights_MN: of each draw.
        entropy_M: of the whole distributions, nats.
        best_M: int64, the likeliest words.
        temperature: at which they were drawn.
    """

    ids_MN: Tensor
    weights_MN: Tensor
    entropy_M: Tensor
    best_M: Tensor
    temperature: float

    def score(self, rows: slice, logs_CV: Tensor, temperature: float, with_gradient: bool) -> Score:
        _same(self.temperature, temperature)
        ids_CN, weights_CN = self.ids_MN[rows], self.weights_MN[rows].to(logs_CV.dtype)
        kl = -(weights_CN * logs_CV.gather(1, ids_CN)).sum() - self.entropy_M[rows].to(logs_CV.dtype).sum()
        errors_CV = None
        if with_gradient:
            # The weights sum to one only in the mean, unless words are drawn as likely as they are.
            errors_CV = logs_CV.exp().mul_(weights_CN.sum(1, keepdim=True))
            errors_CV.scatter_add_(1, ids_CN, -weights_CN)
        return Score(kl, self.best_M[rows], errors_CV)


def _whole(teacher_CV: Tensor, student_CV: Tensor, with_gradient: bool) -> Score:
    """Of log-probabilities of every word. The teacher's are overwritten."""
    best_C = teacher_CV.argmax(-1)
    probabilities_CV = teacher_CV.exp()
    kl = teacher_CV.sub_(student_CV).mul_(probabilities_CV).sum()
    return Score(kl, best_C, student_CV.exp().sub_(probabilities_CV) if with_gradient else None)


def _same(own: float, asked: float) -> None:
    if own != asked:
        raise ValueError(
            f"soft targets of temperature {own} cannot be used at {asked}: encode them again at {asked}, "
            "or keep them with codec hidden or head, which hold at any"
        )
