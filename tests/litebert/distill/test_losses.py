"""The losses besides those on words, against loops over single numbers in float64, values and gradients."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from litebert.distill.losses import cosine_loss, hidden_loss, pair_loss, relation_loss
from litebert.model.attention import Packing

LENGTHS = [3, 3, 5, 1, 2, 2]
TOKENS = sum(LENGTHS)
HEADS = 2
PAIRED = torch.tensor([True, False, True, True, False, True])


def naive_cosine(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student[0], teacher[0], strict=True):
        total = total + 1 - (s * t).sum() / (s.square().sum().sqrt() * t.square().sum().sqrt())
    return total


def naive_hidden(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student[0], teacher[0], strict=True):
        total = total + sum((s[i] - t[i]) ** 2 for i in range(len(s))) / len(s)
    return total


def softmax(scores: list[Tensor]) -> list[Tensor]:
    weights = [score.exp() for score in scores]
    return [weight / sum(weights) for weight in weights]


def divergence(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    return torch.stack([p * (p / q).log() for p, q in zip(teacher, student, strict=True)]).sum()


def naive_pairs(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t, paired in zip(student[0], teacher[0], PAIRED, strict=True):
        if paired:
            total = total + 9 * divergence(softmax(list(t / 3)), softmax(list(s / 3)))
    return total


def naive_relations(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Sample by sample, head by head, token by token."""
    total, begin = torch.zeros((), dtype=torch.float64), 0
    for length in LENGTHS:
        tokens = range(begin, begin + length)
        begin += length
        for head in range(HEADS):
            for token in tokens:
                relations = []
                for left, right in (teacher, student):
                    width = left.shape[1] // HEADS
                    part = slice(head * width, (head + 1) * width)
                    products = [(left[token, part] * right[other, part]).sum() for other in tokens]
                    relations.append(softmax([product / math.sqrt(width) for product in products]))
                total = total + divergence(*relations) / HEADS
    return total


def relations(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    (left_S, right_S), (left_T, right_T) = student, teacher
    return relation_loss((left_S, right_S), (left_T, right_T), Packing.of(LENGTHS), HEADS)


Loss = Callable[[list[Tensor], list[Tensor]], Tensor]
# Each loss, its definition, how many tensors a side gives, and the shapes of a student's and a teacher's.
LOSSES: dict[str, tuple[Loss, Loss, int, tuple[int, int], tuple[int, int]]] = {
    "cosine": (lambda s, t: cosine_loss(s[0], t[0]), naive_cosine, 1, (7, 5), (7, 5)),
    "hidden": (lambda s, t: hidden_loss(s[0], t[0]), naive_hidden, 1, (7, 5), (7, 5)),
    "pairs": (lambda s, t: pair_loss(s[0], t[0], PAIRED, 3.0), naive_pairs, 1, (6, 2), (6, 2)),
    "relations": (relations, naive_relations, 2, (TOKENS, 6), (TOKENS, 8)),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_values_and_gradients_are_the_definitions(name: str, dtype: torch.dtype, tolerance: float) -> None:
    loss, naive, count, *shapes = LOSSES[name]
    generator = torch.Generator().manual_seed(8)
    student, teacher = (
        [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]
        for shape in shapes
    )
    exact_teacher = [x.double() for x in teacher]
    exact = [x.double().requires_grad_() for x in student]
    student = [x.requires_grad_() for x in student]
    found, expected = loss(student, teacher), naive(exact, exact_teacher)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, atol=0, rtol=tolerance)
    gradients = torch.autograd.grad(found / 7, student), torch.autograd.grad(expected / 7, exact)
    for gradient, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient.double(), reference, atol=tolerance / 10, rtol=tolerance)


def test_the_cosine_loss_is_torchs_own() -> None:
    generator = torch.Generator().manual_seed(8)
    student_MH, teacher_MH = (torch.randn(20, 9, generator=generator) for _ in range(2))
    expected = torch.nn.CosineEmbeddingLoss(reduction="sum")(student_MH, teacher_MH, torch.ones(20))
    torch.testing.assert_close(cosine_loss(student_MH, teacher_MH), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(name: str) -> None:
    loss, _, count, shape, _ = LOSSES[name]
    generator = torch.Generator().manual_seed(8)
    teacher = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    assert abs(loss(teacher, teacher)) < 1e-12
    assert loss([2 * x.flip(1) for x in teacher], teacher) > 0.1


def test_relation_heads_divide_both_widths() -> None:
    student_TH, teacher_TH = torch.zeros(TOKENS, 6), torch.zeros(TOKENS, 8)
    with pytest.raises(ValueError, match="relation heads 4 do not divide the student's 6: choose a divisor"):
        relation_loss((student_TH, student_TH), (teacher_TH, teacher_TH), Packing.of(LENGTHS), 4)
