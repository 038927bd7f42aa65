"""Every attention path against the definition, values and gradients; the packing against counts by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from litebert.model import attention as module
from litebert.model.attention import Packing, attention, attention_by_runs, eager_attention

LENGTHS = [5, 5, 5, 1, 9, 4, 4, 17]


def qkv(packing: Packing, heads: int, head_dim: int, dtype: torch.dtype, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(1)
    fused = torch.randn(packing.tokens, 3, heads, head_dim, generator=generator, dtype=torch.float64)
    return fused.to(device, dtype).requires_grad_()


def values_and_gradient(function, fused_T3ND: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    context_TND = function(*fused_T3ND.unbind(1), packing)
    weight_TND = torch.linspace(-1, 1, context_TND.numel(), dtype=context_TND.dtype).view_as(context_TND)
    (gradient,) = torch.autograd.grad((context_TND * weight_TND.to(context_TND.device)).sum(), fused_T3ND)
    return context_TND, gradient


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("lengths", [LENGTHS, sorted(LENGTHS), [6, 6, 6], [1]])
def test_runs_equal_the_definition(lengths: list[int], dtype: torch.dtype, tolerance: float) -> None:
    packing = Packing.of(lengths)
    fused = qkv(packing, heads=3, head_dim=10, dtype=dtype)
    exact = fused.detach().double().requires_grad_()
    for ours, reference in zip(
        values_and_gradient(attention, fused, packing),
        values_and_gradient(eager_attention, exact, packing),
        strict=True,
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), reference, atol=tolerance, rtol=tolerance)


def test_varlen_pads_the_head_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the CUDA kernel that holds us to its contract; the real one runs in the test below."""

    def kernel(q, k, v, cu_q, cu_k, max_q, max_k, *, scale: float) -> Tensor:
        assert cu_q is cu_k and cu_q.dtype == torch.int32 and max_q == max_k == max(LENGTHS)
        assert q.shape[-1] % 8 == 0 and q.shape == k.shape == v.shape
        contexts = []
        for q_LND, k_LND, v_LND in zip(*(x.split(LENGTHS) for x in (q, k, v)), strict=True):
            q_NLD, k_NLD, v_NLD = (x.transpose(0, 1) for x in (q_LND, k_LND, v_LND))
            context_NLD = F.scaled_dot_product_attention(q_NLD, k_NLD, v_NLD, scale=scale)
            contexts.append(context_NLD.transpose(0, 1))
        return torch.cat(contexts)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    packing = Packing.of(LENGTHS)
    fused = qkv(packing, heads=3, head_dim=26, dtype=torch.float64)
    for ours, reference in zip(
        values_and_gradient(module.varlen_attention, fused, packing),
        values_and_gradient(eager_attention, fused, packing),
        strict=True,
    ):
        torch.testing.assert_close(ours, reference, atol=1e-12, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("head_dim", [26, 64])
def test_cuda_equals_the_definition(head_dim: int, dtype: torch.dtype) -> None:
    packing = Packing.of(LENGTHS)
    fused = qkv(packing, heads=3, head_dim=head_dim, dtype=dtype, device="cuda")
    exact = fused.detach().double().cpu().requires_grad_()
    for ours, reference in zip(
        values_and_gradient(attention, fused, packing.to("cuda")),
        values_and_gradient(eager_attention, exact, packing),
        strict=True,
    ):
        torch.testing.assert_close(ours.double().cpu(), reference, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_weights_and_keeps_their_mean(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    packing = Packing.of([64] * 8)
    q_TND = torch.zeros(packing.tokens, 2, 8, dtype=dtype)
    context_TND = attention_by_runs(q_TND, q_TND, torch.ones_like(q_TND), packing, dropout_p=0.25).float()
    # Each entry is a mean over 64 weights, each dropped or scaled by 4/3: its deviation is sqrt(p / (1 - p) /
    # 64).
    assert context_TND.mean().item() == pytest.approx(1, abs=0.02)
    assert context_TND.std().item() == pytest.approx((0.25 / 0.75 / 64) ** 0.5, rel=0.1)


def test_packing_counts() -> None:
    packing = Packing.of([2, 2, 1, 3])
    assert (packing.tokens, packing.max_length) == (8, 3)
    assert packing.lengths.tolist() == [2, 2, 1, 3]
    assert packing.runs == ((2, 2), (1, 1), (1, 3))
    assert packing.cu_seqlens.tolist() == [0, 2, 4, 5, 8] and packing.cu_seqlens.dtype == torch.int32
    assert packing.position_ids.tolist() == [0, 1, 0, 1, 0, 0, 1, 2]
    assert packing.first.tolist() == [0, 2, 4, 5]
    assert packing.position_ids.dtype == packing.first.dtype == torch.int64


def test_packing_moves_its_tensors() -> None:
    packing = Packing.of([2, 3])
    moved = packing.to("meta")
    assert {moved.cu_seqlens.device.type, moved.position_ids.device.type, moved.first.device.type} == {"meta"}
    assert packing.cu_seqlens.device.type == "cpu" and moved.runs == packing.runs


@pytest.mark.parametrize("lengths", [[], [3, 0], [-1], [[2, 2]]])
def test_packing_refuses_what_is_no_list_of_lengths(lengths: list) -> None:
    with pytest.raises(ValueError, match="lengths must be a non-empty list of positive numbers"):
        Packing.of(lengths)
