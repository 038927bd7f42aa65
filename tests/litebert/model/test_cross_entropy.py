"""The chunked loss against torch's own on whole logits, values and gradients; and the memory that it does without."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from litebert.model import PRESETS, Packing, PretrainingModel
from litebert.model.cross_entropy import Judged, each_cross_entropy, linear_criterion, linear_cross_entropy
from tests.allocations import Allocations

VOCAB = 50


def inputs(rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    rows_ME, weight_VE, bias_V = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((rows, 12), (VOCAB, 12), (VOCAB,))
    )
    return rows_ME, weight_VE, bias_V, torch.randint(VOCAB, (rows,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 3 * VOCAB, 7 * VOCAB + 1, 1000 * VOCAB])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)]
)
def test_values_and_gradients_are_those_of_whole_logits(chunk: int, dtype: torch.dtype, tolerance: float) -> None:
    rows_ME, weight_VE, bias_V, labels_M = inputs(20, dtype)
    ours = rows_ME, weight_VE, bias_V
    exact = [x.detach().double().requires_grad_() for x in ours]
    loss, right = linear_cross_entropy(*ours, labels_M, chunk=chunk)
    logits_MV = F.linear(*exact)
    reference = F.cross_entropy(logits_MV, labels_M, reduction="sum")
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(loss.double(), reference, atol=0, rtol=tolerance)
    assert right == (logits_MV.argmax(-1) == labels_M).sum() and not right.requires_grad
    # A scale other than 1, as the means over a batch have it.
    gradients = torch.autograd.grad(loss / 7, ours)
    for gradient, expected in zip(gradients, torch.autograd.grad(reference / 7, exact), strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), expected, atol=tolerance, rtol=tolerance)


def test_a_mean_in_bf16_is_scaled_by_no_rounded_number() -> None:
    """1 / 1021 is 0.29 % off in bf16; each gradient may be rounded, but not all of them the same way."""
    rows_ME, weight_VE, bias_V, labels_M = inputs(1021, torch.bfloat16)
    loss, _ = linear_cross_entropy(rows_ME, weight_VE, bias_V, labels_M)
    (scaled_ME,) = torch.autograd.grad(loss / 1021, rows_ME, retain_graph=True)
    (whole_ME,) = torch.autograd.grad(loss, rows_ME)
    ratio = 1021 * scaled_ME.double().abs().sum() / whole_ME.double().abs().sum()
    assert ratio.item() == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("together", [1, 2, 3, 9])
def test_errors_of_several_chunks_are_multiplied_at_once(together: int) -> None:
    """Of 20 rows in chunks of 3, whose last is shorter, as the last of those that are together may be."""
    rows_ME, weight_VE, bias_V, _ = inputs(20, torch.float64)

    def quartic(logits_CV: Tensor, rows: slice, with_gradient: bool) -> Judged:
        return Judged((logits_CV.pow(4).sum(),), 4 * logits_CV.pow(3))

    ours = rows_ME, weight_VE, bias_V
    with Allocations() as found:
        (loss,) = linear_criterion(*ours, quartic, chunk=3 * VOCAB, together=together)
    expected = F.linear(*ours).pow(4).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, ours), torch.autograd.grad(expected, ours))
    most = max(shape[0] for shape in found.shapes if shape[1:] == (VOCAB,) and shape != weight_VE.T.shape)
    assert most == max(3, min(20, 3 * together))


def test_of_equal_logits_the_first_counts() -> None:
    """A model that says nothing yet is not right everywhere."""
    _, right = linear_cross_entropy(torch.zeros(6, 4), torch.zeros(9, 4), torch.zeros(9), torch.arange(6) % 3)
    assert right == 2


@pytest.mark.parametrize("rows", [0, 20])
@pytest.mark.parametrize("chunk", [1, 3 * VOCAB, 1000 * VOCAB])
def test_row_by_row_it_is_the_loss_of_whole_logits(rows: int, chunk: int) -> None:
    rows_ME, weight_VE, bias_V, labels_M = inputs(rows, torch.float64)
    labels_M[: rows // 2] = F.linear(rows_ME, weight_VE, bias_V).argmax(-1)[: rows // 2]
    losses_M, right_M = each_cross_entropy(rows_ME, weight_VE, bias_V, labels_M, chunk)
    logits_MV = F.linear(rows_ME, weight_VE, bias_V).detach()
    torch.testing.assert_close(losses_M, F.cross_entropy(logits_MV, labels_M, reduction="none"))
    assert torch.equal(right_M, logits_MV.argmax(-1) == labels_M) and right_M.sum() >= rows // 2
    assert not losses_M.requires_grad


def test_without_a_gradient_none_is_taken() -> None:
    rows_ME, weight_VE, bias_V, labels_M = inputs(20, torch.float32)
    with_gradient, _ = linear_cross_entropy(rows_ME, weight_VE, bias_V, labels_M)
    with torch.inference_mode(), Allocations() as found:
        loss, _ = linear_cross_entropy(rows_ME, weight_VE, bias_V, labels_M)
    assert loss == with_gradient.item() and not loss.requires_grad
    assert weight_VE.shape not in found.shapes


def test_no_rows_are_a_loss_of_nothing() -> None:
    rows_ME, weight_VE, bias_V, labels_M = inputs(0, torch.float32)
    loss, right = linear_cross_entropy(rows_ME, weight_VE, bias_V, labels_M)
    loss.backward()
    assert (loss, right) == (0, 0) and weight_VE.grad is not None and not weight_VE.grad.any()


def test_a_large_micro_batch_has_no_logits_of_all_its_tokens() -> None:
    """16 k tokens at the full vocabulary: no tensor with a row for each masked token and a column for each word."""
    with torch.device("meta"):
        model = PretrainingModel(PRESETS["albert-tiny"])
        tokens, masked = 32 * 512, 32 * 77
        ids_T, masked_M, labels_M = (torch.zeros(n, dtype=torch.int64) for n in (tokens, masked, masked))
    packing = Packing.of([512] * 32).to("meta")
    with Allocations() as found:
        scored = model(ids_T, None, packing, masked_M, labels_M)
        (scored.mlm_loss + scored.pair_logits_B2.sum()).backward()
    vocabulary = model.config.vocab_size
    assert torch.Size([vocabulary, 128]) in found.shapes, "the gradient of the words"
    largest = max(shape[0] for shape in found.shapes if len(shape) == 2 and shape[1] == vocabulary)
    assert 0 < largest < masked / 4
