"""What a teacher says of masked words, whole or in part, and how far a student is from it.

Each kind of targets gives the divergence KL(teacher || student) of some rows, both at one temperature, and what its
gradient is made of. Logarithms are natural.

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


class Distribution(NamedTuple):
    """A chunk's distributions over the words, in as few passes over C x V numbers as will do.

    Attributes:
        logits_CV, probabilities_CV: of at least fp32.
        normaliser_C1: what logits exceed log-probabilities by.
        best_C1: int64, the likeliest words, the first of equals.
    """

    logits_CV: Tensor
    probabilities_CV: Tensor
    normaliser_C1: Tensor
    best_C1: Tensor

    @classmethod
    def of(cls, logits_CV: Tensor) -> Distribution:
        """The softmax of logits."""
        probabilities_CV = logits_CV.softmax(-1)
        best_C1 = logits_CV.argmax(-1, keepdim=True)
        # The likeliest word's probability is at least 1 / V: its logarithm is as good as a sum of exponentials.
        normaliser_C1 = logits_CV.gather(1, best_C1) - probabilities_CV.gather(1, best_C1).log()
        return cls(logits_CV, probabilities_CV, normaliser_C1, best_C1)

    def logs(self, ids_CK: Tensor) -> Tensor:
        """Log-probabilities [C, K] of some words."""
        return self.logits_CV.gather(1, ids_CK) - self.normaliser_C1


class Score(NamedTuple):
    """How far a student is from the teacher on the rows of a chunk.

    The gradient of kl by what enters the student's softmax is mass times the student's probabilities, less expected.

    Attributes:
        kl: 0-d, summed over rows, nats.
        best_C1: int64, the teacher's likeliest words.
        expected: [C, V]; or [C, N], of the words in ids_CN, repetitions added up.
        ids_CN: int64, or None where expected is of every word.
        mass: of expected, [C, 1], where it is not 1.
    """

    kl: Tensor
    best_C1: Tensor
    expected: Tensor
    ids_CN: Tensor | None = None
    mass: Tensor | float = 1.0


class Targets(Protocol):
    """A teacher's distributions over the vocabulary, one a row."""

    @property
    def temperature(self) -> float | None:
        """The only one at which they hold; None where they do at any."""
        ...

    @property
    def divergence(self) -> str:
        """What the divergence is to be called: kl is the whole one, and nothing else."""
        ...

    def score(self, rows: slice, student: Distribution, temperature: float) -> Score:
        """The student, at the temperature, beside these rows of the teacher.

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

    @property
    def temperature(self) -> None:
        return None

    @property
    def divergence(self) -> str:
        return "kl"

    def distribution(self, rows: slice, temperature: float, dtype: torch.dtype) -> Distribution:
        """Of some rows, at a temperature."""
        logits_CV = F.linear(self.rows_MD[rows], self.weight_VD, self.bias_V).to(dtype)
        return Distribution.of(logits_CV if temperature == 1 else logits_CV.div_(temperature))

    def score(self, rows: slice, student: Distribution, temperature: float) -> Score:
        return _whole(self.distribution(rows, temperature, student.logits_CV.dtype), student)


@dataclass(frozen=True)
class Mean:
    """Several teachers: the mean of their probabilities, each at the temperature."""

    teachers: tuple[Dense, ...]

    @property
    def temperature(self) -> None:
        return None

    @property
    def divergence(self) -> str:
        return "kl"

    def score(self, rows: slice, student: Distribution, temperature: float) -> Score:
        each = [teacher.distribution(rows, temperature, student.logits_CV.dtype) for teacher in self.teachers]
        logs_CV = reduce(torch.logaddexp, (one.logits_CV - one.normaliser_C1 for one in each)) - math.log(len(each))
        return _whole(Distribution.of(logs_CV), student)


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

    @property
    def divergence(self) -> str:
        return "topk_kl"

    def score(self, rows: slice, student: Distribution, temperature: float) -> Score:
        _same(self.temperature, temperature)
        ids_CK, teacher_CK1 = self.ids_MK[rows], self.logs_MK1[rows].to(student.logits_CV.dtype)
        rest_CV = student.logits_CV.scatter(1, ids_CK, -math.inf)
        rest_C1 = rest_CV.logsumexp(-1, keepdim=True)
        student_CK1 = torch.cat([student.logs(ids_CK), rest_C1 - student.normaliser_C1], 1)
        probabilities_CK1 = teacher_CK1.exp()
        kl = (probabilities_CK1 * (teacher_CK1 - student_CK1)).sum()
        # What the teacher gives to the others, spread as the student spreads it.
        expected_CV = rest_CV.add_(teacher_CK1[:, -1:] - rest_C1).exp_()
        return Score(kl, ids_CK[:, :1], expected_CV.scatter_(1, ids_CK, probabilities_CK1[:, :-1]))


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

    @property
    def divergence(self) -> str:
        return "sampled_kl"

    def score(self, rows: slice, student: Distribution, temperature: float) -> Score:
        _same(self.temperature, temperature)
        dtype = student.logits_CV.dtype
        ids_CN, weights_CN = self.ids_MN[rows], self.weights_MN[rows].to(dtype)
        kl = -(weights_CN * student.logs(ids_CN)).sum() - self.entropy_M[rows].to(dtype).sum()
        # The weights sum to one only in the mean, unless words are drawn as likely as they are.
        return Score(kl, self.best_M[rows, None], weights_CN, ids_CN, weights_CN.sum(1, keepdim=True))


def _whole(teacher: Distribution, student: Distribution) -> Score:
    """Of every word's probability. The teacher's logits are overwritten."""
    gaps_CV = teacher.logits_CV.sub_(student.logits_CV).mul_(teacher.probabilities_CV)
    kl_C1 = gaps_CV.sum(-1, keepdim=True) + (student.normaliser_C1 - teacher.normaliser_C1)
    return Score(kl_C1.sum(), teacher.best_C1, teacher.probabilities_CV)


def _same(own: float, asked: float) -> None:
    if own != asked:
        raise ValueError(
            f"soft targets of temperature {own} cannot be used at {asked}: encode them again at {asked}, "
            "or keep them with codec hidden or head, which hold at any"
        )
