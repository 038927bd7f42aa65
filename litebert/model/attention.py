"""Self-attention over an unpadded micro-batch: every sample attends to itself alone, and no padding exists.

Shape suffixes: T = packed tokens, B = samples, N = heads, D = head dim; a run is R consecutive samples of
equal length L.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packing:
    """Where each sample of a micro-batch lies: made on the host, once, so that no layer asks the device.

    `lengths` int64 [B] and `runs`, the (samples, length) of consecutive samples of equal length, stay on the
    host. `cu_seqlens` int32 [B + 1]; `position_ids` int64 [T], counted from 0 in each sample; `first` int64
    [B], the index in T of each sample's first token, its [CLS]. Samples may lie in any order; sorted by
    length they make the fewest runs.
    """

    lengths: np.ndarray
    tokens: int
    max_length: int
    runs: tuple[tuple[int, int], ...]
    cu_seqlens: Tensor
    position_ids: Tensor
    first: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int] | np.ndarray) -> Packing:
        """The packing of samples of these lengths. ValueError unless there are some, all positive."""
        lengths = np.array(lengths, dtype=np.int64)
        if lengths.ndim != 1 or lengths.size == 0 or lengths.min() < 1:
            raise ValueError("Packing: lengths must be a non-empty list of positive numbers of tokens")
        edges = np.flatnonzero(np.diff(lengths, prepend=0, append=0))
        ends = lengths.cumsum()
        starts = ends - lengths
        return cls(
            lengths=lengths,
            tokens=int(ends[-1]),
            max_length=int(lengths.max()),
            runs=tuple(zip(np.diff(edges).tolist(), lengths[edges[:-1]].tolist(), strict=True)),
            cu_seqlens=torch.from_numpy(np.append(0, ends).astype(np.int32)),
            position_ids=torch.from_numpy(np.arange(ends[-1]) - np.repeat(starts, lengths)),
            first=torch.from_numpy(starts),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Packing:
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Packing:
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Packing:
        return replace(
            self,
            cu_seqlens=change(self.cu_seqlens),
            position_ids=change(self.position_ids),
            first=change(self.first),
        )


def attention(q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, packing: Packing, dropout_p: float = 0.0) -> Tensor:
    """Softmax attention within each sample: [T, N, D], of the dtype of `q_TND`.

    CUDA in half precision uses torch's variable-length flash kernel. That kernel knows neither fp32 nor
    dropout nor GPUs before Ampere: these, and every other device, go run by run.
    """
    half = q_TND.dtype in (torch.bfloat16, torch.float16)
    if q_TND.is_cuda and half and dropout_p == 0.0 and has_flash(q_TND.device):
        return varlen_attention(q_TND, k_TND, v_TND, packing)
    return attention_by_runs(q_TND, k_TND, v_TND, packing, dropout_p)


@cache
def has_flash(device: torch.device) -> bool:
    """Whether a CUDA device runs the flash kernel, which needs compute capability 8.0."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def varlen_attention(q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, packing: Packing) -> Tensor:
    """`attention` in one kernel launch; CUDA, bf16 or fp16."""
    from torch.nn.attention.varlen import varlen_attn  # imports torch's compiler: a second that others need not wait

    head_dim = q_TND.shape[-1]
    if head_dim % 8:
        # The kernel takes multiples of 8. Zeros appended to q, k and v change no score; what they add is cut off
        # again. Padding by nothing would still copy.
        q_TND, k_TND, v_TND = (F.pad(x_TND, (0, -head_dim % 8)) for x_TND in (q_TND, k_TND, v_TND))
    cu_seqlens, max_length = packing.cu_seqlens, packing.max_length
    context_TND = varlen_attn(q_TND, k_TND, v_TND, cu_seqlens, cu_seqlens, max_length, max_length, scale=head_dim**-0.5)
    assert isinstance(context_TND, Tensor)
    return context_TND[..., :head_dim]


def attention_by_runs(q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, packing: Packing, dropout_p: float = 0.0) -> Tensor:
    """`attention` in one dense call a run, on views: nothing is gathered, padded or masked."""
    sizes = [samples * length for samples, length in packing.runs]
    contexts = []
    for (samples, length), *qkv in zip(
        packing.runs, q_TND.split(sizes), k_TND.split(sizes), v_TND.split(sizes), strict=True
    ):
        q_RNLD, k_RNLD, v_RNLD = (x.unflatten(0, (samples, length)).transpose(1, 2) for x in qkv)
        context_RNLD = dense_attention(q_RNLD, k_RNLD, v_RNLD, dropout_p)
        contexts.append(context_RNLD.transpose(1, 2).flatten(0, 1))
    return torch.cat(contexts)


def dense_attention(q_RNLD: Tensor, k_RNLD: Tensor, v_RNLD: Tensor, dropout_p: float) -> Tensor:
    """Softmax attention of samples that are all equally long: [R, N, L, D]."""
    if q_RNLD.device.type == "cpu" and q_RNLD.dtype == torch.bfloat16:
        # torch's fused CPU kernel makes poor use of bf16 instructions: at 128 tokens plain matmuls, forward and
        # backward, took a quarter of its time (4 heads of 64, AVX512-BF16).
        scores_RNLL = (q_RNLD * q_RNLD.shape[-1] ** -0.5) @ k_RNLD.transpose(-2, -1)
        return F.dropout(scores_RNLL.softmax(-1), dropout_p) @ v_RNLD
    return F.scaled_dot_product_attention(q_RNLD, k_RNLD, v_RNLD, dropout_p=dropout_p)


def eager_attention(q_TND: Tensor, k_TND: Tensor, v_TND: Tensor, packing: Packing) -> Tensor:
    """The definition, sample by sample and without any kernel: the reference for the fast paths."""
    contexts = []
    for start, end in pairwise(packing.cu_seqlens.tolist()):
        q_LND, k_LND, v_LND = q_TND[start:end], k_TND[start:end], v_TND[start:end]
        scores_NLL = torch.einsum("qnd,knd->nqk", q_LND, k_LND) * q_TND.shape[-1] ** -0.5
        contexts.append(torch.einsum("nqk,knd->qnd", scores_NLL.softmax(-1), v_LND))
    return torch.cat(contexts)
