"""What a student may learn of a teacher besides its words: hidden states, relations between tokens, pairs.

Each loss is a sum over rows, of at least fp32: whoever calls divides it by the count of a whole global batch.

Shape suffixes: M = rows, H = hidden size, T = packed tokens, B = samples, N = heads, D = head dim; a run is R
consecutive samples of equal length L.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from litebert.model.attention import Packing


def cosine_loss(student_MH: Tensor, teacher_MH: Tensor) -> Tensor:
    """1 - cos of the angle between hidden states of the same position, summed (Sanh et al. 2019, "DistilBERT")."""
    return (1 - F.cosine_similarity(_exact(student_MH), _exact(teacher_MH), dim=-1)).sum()


def hidden_loss(student_MH: Tensor, teacher_MH: Tensor) -> Tensor:
    """Squared difference of hidden states, the mean over their H numbers, summed (Jiao et al. 2020, "TinyBERT").

    A student of another width comes here through its learned projection.
    """
    return (_exact(student_MH) - _exact(teacher_MH)).square().mean(-1).sum()


def pair_loss(student_B2: Tensor, teacher_B2: Tensor, paired_B: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(teacher || student) of what both say of sentence pairs, at temperature T, nats, summed.

    Args:
        student_B2, teacher_B2: logits.
        paired_B: bool, which samples are pairs; the others count nothing.
    """
    student_logs_B2, teacher_logs_B2 = ((_exact(x) / temperature).log_softmax(-1) for x in (student_B2, teacher_B2))
    kl_B = F.kl_div(student_logs_B2, teacher_logs_B2, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (kl_B * paired_B).sum()


def relation_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], packing: Packing, heads: int
) -> Tensor:
    """KL(teacher || student) of how each token is related to those of its sample, nats, summed over tokens.

    A relation is the softmax of the scaled products of two vectors of each token, head by head, of which the mean is
    taken. Of queries and keys it is attention, of values with themselves the value relation (Wang et al. 2020,
    "MiniLM"); queries with themselves and keys with themselves are MiniLMv2's (Wang et al. 2021), whose number of
    relation heads is free, so that student and teacher may differ in width and heads.

    The scores of a run, R N L L of them on each side, exist at once.

    Args:
        student, teacher: two [T, H] each, of all heads end to end; H may differ between the two sides.
        heads: into how many both sides are split. ValueError unless it divides both widths.
    """
    for side, (left_TH, _) in (("student", student), ("teacher", teacher)):
        if left_TH.shape[-1] % heads:
            raise ValueError(f"relation heads {heads} do not divide the {side}'s {left_TH.shape[-1]}: choose a divisor")
    sizes = [samples * length for samples, length in packing.runs]
    columns = [x_TH.split(sizes) for x_TH in (*student, *teacher)]
    total = _exact(student[0]).new_zeros(())
    for (samples, length), *run in zip(packing.runs, *columns, strict=True):
        left_S, right_S, left_T, right_T = (
            _exact(x).unflatten(-1, (heads, -1)).unflatten(0, (samples, length)).transpose(1, 2) for x in run
        )
        student_RNLL, teacher_RNLL = _relation(left_S, right_S), _relation(left_T, right_T)
        total = total + F.kl_div(student_RNLL, teacher_RNLL, reduction="sum", log_target=True) / heads
    return total


def _relation(left_RNLD: Tensor, right_RNLD: Tensor) -> Tensor:
    """Log-probabilities [R, N, L, L]."""
    return (left_RNLD @ right_RNLD.transpose(-2, -1) * left_RNLD.shape[-1] ** -0.5).log_softmax(-1)


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
