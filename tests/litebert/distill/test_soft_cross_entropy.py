"""The student's losses against their definitions on whole logits in float64, values and gradients."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from litebert.distill.soft_cross_entropy import soft_linear_cross_entropy
from litebert.distill.targets import Dense, Mean, Sampled, Targets, TopK
from litebert.model.cross_entropy import linear_cross_entropy
from tests.allocations import Allocations

ROWS, VOCAB, WIDTH, TEACHER_WIDTH, KEPT = 20, 50, 12, 9, 7
MLM_WEIGHT, CE_WEIGHT = 2.0, 5.0


class Case:
    """A student and a teacher on the same rows; of every third row no label is known."""

    def __init__(self, dtype: torch.dtype, rows: int = ROWS) -> None:
        generator = torch.Generator().manual_seed(5)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        rows_ME, weight_VE, bias_V = normal(rows, WIDTH), normal(VOCAB, WIDTH), normal(VOCAB)
        self.student = (rows_ME.requires_grad_(), weight_VE.requires_grad_(), bias_V.requires_grad_())
        self.teachers = [
            Dense(normal(rows, TEACHER_WIDTH), normal(VOCAB, TEACHER_WIDTH), normal(VOCAB)) for _ in range(3)
        ]
        self.labels_M = torch.randint(VOCAB, (rows,), generator=generator)
        self.labels_M[::3] = -1
        self.ids_MN = torch.randint(VOCAB, (rows, KEPT), generator=generator)
        self.weights_MN = torch.rand(rows, KEPT, generator=generator, dtype=torch.float64)

    def itself(self) -> Dense:
        """The student as its own teacher."""
        rows_ME, weight_VE, bias_V = self.student
        return Dense(rows_ME.detach(), weight_VE.detach(), bias_V.detach())

    def exact_teacher(self, number: int, temperature: float) -> Tensor:
        teacher = self.teachers[number]
        logits_MV = teacher.rows_MD.double() @ teacher.weight_VD.double().t() + teacher.bias_V.double()
        return (logits_MV / temperature).softmax(-1)

    def top_k(self, temperature: float) -> TopK:
        probabilities_MV = self.exact_teacher(0, temperature)
        kept_MK, ids_MK = probabilities_MV.topk(KEPT)
        return TopK(ids_MK, torch.cat([kept_MK, 1 - kept_MK.sum(1, keepdim=True)], 1).log(), temperature)

    def sampled(self, temperature: float) -> Sampled:
        entropy_M = torch.arange(len(self.ids_MN), dtype=torch.float64) / 10
        return Sampled(self.ids_MN, self.weights_MN, entropy_M, self.ids_MN[:, 2], temperature)


Divergence = Callable[[Case, Tensor, float], Tensor]


def whole(case: Case, student_MV: Tensor, temperature: float) -> Tensor:
    """torch's own, as DistilBERT's training script calls it."""
    teacher_MV = case.exact_teacher(0, temperature)
    return F.kl_div(student_MV, teacher_MV, reduction="batchmean") * len(teacher_MV)


def of_mean(case: Case, student_MV: Tensor, temperature: float) -> Tensor:
    teacher_MV = torch.stack([case.exact_teacher(number, temperature) for number in range(3)]).mean(0)
    return F.kl_div(student_MV, teacher_MV, reduction="sum")


def of_classes(case: Case, student_MV: Tensor, temperature: float) -> Tensor:
    """Row by row: the kept words, then the sum of all others."""
    total = student_MV.new_zeros(())
    for teacher_V, student_V in zip(case.exact_teacher(0, temperature), student_MV.exp(), strict=True):
        order = teacher_V.argsort(descending=True).tolist()
        for words in [[word] for word in order[:KEPT]] + [order[KEPT:]]:
            expected, found = teacher_V[words].sum(), student_V[words].sum()
            total = total + expected * (expected / found).log()
    return total


def of_draws(case: Case, student_MV: Tensor, temperature: float) -> Tensor:
    total = student_MV.new_zeros(())
    for row, (ids, weights) in enumerate(zip(case.ids_MN.tolist(), case.weights_MN.tolist(), strict=True)):
        for word, weight in zip(ids, weights, strict=True):
            total = total - weight * student_MV[row, word]
        total = total - row / 10
    return total


KINDS: dict[str, tuple[Callable[[Case, float], Targets], Divergence]] = {
    "dense": (lambda case, _: case.teachers[0], whole),
    "mean": (lambda case, _: Mean(tuple(case.teachers)), of_mean),
    "topk": (Case.top_k, of_classes),
    "sampled": (Case.sampled, of_draws),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk", [1, 3 * VOCAB, 7 * VOCAB + 1, 1000 * VOCAB])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)]
)
def test_values_and_gradients_are_the_definitions(
    kind: str, temperature: float, chunk: int, dtype: torch.dtype, tolerance: float
) -> None:
    case = Case(dtype)
    make, divergence = KINDS[kind]
    found = soft_linear_cross_entropy(
        *case.student, case.labels_M, make(case, temperature), temperature, MLM_WEIGHT, CE_WEIGHT, chunk
    )

    exact = [x.detach().double().requires_grad_() for x in case.student]
    logits_MV = F.linear(*exact)
    mlm = F.cross_entropy(logits_MV, case.labels_M, ignore_index=-1, reduction="sum")
    kl = temperature**2 * divergence(case, (logits_MV / temperature).log_softmax(-1), temperature)
    loss = MLM_WEIGHT * mlm + CE_WEIGHT * kl
    for value, reference in ((found.loss, loss), (found.mlm, mlm), (found.kl, kl)):
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(value.double(), reference, atol=0, rtol=tolerance)
    assert not any(value.requires_grad for value in found[1:])

    # A scale other than 1, as the means over a batch have it.
    gradients = torch.autograd.grad(found.loss / 70, case.student)
    for gradient, expected in zip(gradients, torch.autograd.grad(loss / 70, exact), strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_whole_logits(kind: str) -> None:
    case = Case(torch.float64)
    found = soft_linear_cross_entropy(*case.student, case.labels_M, KINDS[kind][0](case, 2.0), 2.0, chunk=3 * VOCAB)
    best_M = F.linear(*case.student).argmax(-1)
    mean_MV = torch.stack([case.exact_teacher(number, 2.0) for number in range(3)]).mean(0)
    teacher_best_M = {"mean": mean_MV.argmax(-1), "sampled": case.ids_MN[:, 2]}.get(
        kind, case.exact_teacher(0, 2.0).argmax(-1)
    )
    assert found.right == (best_M == case.labels_M).sum()
    assert found.agreed == (best_M == teacher_best_M).sum()
    agreeing = soft_linear_cross_entropy(*case.student, best_M, case.itself())
    assert agreeing.right == agreeing.agreed == ROWS


def test_a_student_that_says_what_the_teacher_says_has_nothing_to_learn() -> None:
    case = Case(torch.float64)
    found = soft_linear_cross_entropy(*case.student, case.labels_M, case.itself(), 3.0, mlm_weight=0.0)
    assert abs(found.kl) < 1e-12
    for gradient in torch.autograd.grad(found.loss, case.student):
        assert gradient.abs().max() < 1e-12


def test_of_no_weight_the_soft_loss_leaves_the_hard_one() -> None:
    """The same loss as pretraining's, and the same gradient."""
    case = Case(torch.float32)
    labels_M = case.labels_M.clamp(min=0)
    found = soft_linear_cross_entropy(*case.student, labels_M, case.teachers[0], 2.0, ce_weight=0.0)
    loss, right = linear_cross_entropy(*case.student, labels_M)
    torch.testing.assert_close(found.loss, loss)
    assert found.right == right
    ours, theirs = (torch.autograd.grad(each, case.student) for each in (found.loss, loss))
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_others_that_a_student_has_given_up_keep_their_gradient() -> None:
    """A tail of e^-200 is no probability in fp32; what the teacher gives to it still pulls at its words."""
    bias_V = torch.zeros(3, requires_grad=True)
    student = (torch.tensor([[1.0]]), torch.tensor([[200.0], [0.0], [0.0]]), bias_V)
    targets = TopK(torch.tensor([[0]]), torch.tensor([[0.75, 0.25]]).log(), 1.0)
    found = soft_linear_cross_entropy(*student, torch.tensor([-1]), targets)
    (of_bias_V,) = torch.autograd.grad(found.loss, [bias_V])
    torch.testing.assert_close(of_bias_V, torch.tensor([0.25, -0.125, -0.125]))
    expected = 0.75 * math.log(0.75) + 0.25 * (math.log(0.25) + 200 - math.log(2))
    assert math.isclose(found.kl.item(), expected, rel_tol=1e-6)


@pytest.mark.parametrize("kind", ["topk", "sampled"])
def test_another_temperature_than_the_targets_own_is_refused(kind: str) -> None:
    case = Case(torch.float32)
    with pytest.raises(ValueError, match=r"temperature 2.0 cannot be used at 1.0: encode"):
        soft_linear_cross_entropy(*case.student, case.labels_M, KINDS[kind][0](case, 2.0), 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_losses_of_nothing(kind: str) -> None:
    case = Case(torch.float32, rows=0)
    found = soft_linear_cross_entropy(*case.student, case.labels_M, KINDS[kind][0](case, 2.0), 2.0)
    found.loss.backward()
    assert [value.item() for value in found] == [0] * 5
    assert case.student[1].grad is not None and not case.student[1].grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_all_rows_never_exist(kind: str) -> None:
    case, chunk = Case(torch.float32), 3 * VOCAB
    targets = KINDS[kind][0](case, 2.0)
    with Allocations() as found:
        soft_linear_cross_entropy(*case.student, case.labels_M, targets, 2.0, chunk=chunk).loss.backward()
    # The student's gradients are larger than a chunk here; logits of all rows, its own or the teacher's, would be more.
    assert max(shape.numel() for shape in found.shapes) == VOCAB * WIDTH < ROWS * VOCAB


def test_without_a_gradient_none_is_taken() -> None:
    case = Case(torch.float32)
    with_gradient = soft_linear_cross_entropy(*case.student, case.labels_M, case.teachers[0], 2.0)
    with torch.inference_mode(), Allocations() as found:
        without = soft_linear_cross_entropy(*case.student, case.labels_M, case.teachers[0], 2.0, chunk=3 * VOCAB)
    torch.testing.assert_close(without.loss, with_gradient.loss.detach())
    assert not without.loss.requires_grad and case.student[1].shape not in found.shapes
