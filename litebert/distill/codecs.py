"""How a teacher's answers at masked positions are kept: columns with a row for each, and what they are worth.

| codec     | keeps                                | bytes a position              | 8 bits instead of 16          |
|-----------|--------------------------------------|-------------------------------|-------------------------------|
| `hidden`  | last hidden state                    | 2 H                           | H + 2                         |
| `head`    | what enters the decoder              | 2 E                           | E + 2                         |
| `topk`    | k likeliest words, the others' mass  | 2 k + 2 (k + 1)               | 2 k + (k + 1) + 2             |
| `sampled` | n words drawn, best word, entropy    | 2 n + 6; weighted 4 n + 10    | weighted 3 n + 10             |

An id takes 2 bytes, or 4 where the vocabulary has more than 65536. The first two hold the whole distribution, at any
temperature, for whoever has the teacher's head; the others hold a part of it at one temperature, and need no teacher.

16-bit numbers are fp16, not bf16: LayerNorm bounds what stands here, and ten bits of mantissa against seven leave a
sixtieth of the divergence. 8-bit numbers are steps of a 16-bit scale, each row's own.

Shape suffixes: M = positions, C = positions of a chunk, H = hidden size, E = width of the decoder, V = vocabulary,
K = words kept, N = words drawn.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_tools.shards.keyed_rng import draws, key_of
from litebert.distill import targets
from litebert.model.cross_entropy import CHUNK
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel

KINDS = ("hidden", "head", "topk", "sampled")
_INT8 = 127
_UINT8 = 255
# Probabilities are counted in these when words are drawn: sums of integers are the same in any order.
_UNIT = 2.0**-40
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class CodecConfig:
    """What is kept of a teacher's answers. ValueError lists everything that is wrong with it.

    Attributes:
        kind: "hidden", "head", "topk" or "sampled".
        bits: of a kept number, 16 or 8.
        k: words that topk keeps.
        draws: words that sampled draws.
        exponent: sampled draws words as likely as this power of their probability. At 1 all draws weigh the same, and
            no weights are kept: half the bytes, and as small an error as at 0.8 (benchmarks/soft_targets.py).
        temperature: by which logits are divided in topk and sampled; their targets hold at no other.
    """

    kind: str = "head"
    bits: int = 16
    k: int = 64
    draws: int = 64
    exponent: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        problems = [f"kind '{self.kind}' is none of {', '.join(KINDS)}"] if self.kind not in KINDS else []
        if self.bits not in (16, 8):
            problems.append(f"bits {self.bits} must be 16 or 8")
        problems += [f"{name} must be at least 1" for name in ("k", "draws") if getattr(self, name) < 1]
        problems += [
            f"{name} {getattr(self, name)} must be above 0 and finite"
            for name in ("exponent", "temperature")
            if not 0 < getattr(self, name) < math.inf
        ]
        if self.kind == "sampled" and self.bits == 8 and self.exponent == 1:
            problems.append("bits 8 is of the weights of draws, and at exponent 1 there are none: set bits to 16")
        if problems:
            raise ValueError("codec: " + "; ".join(problems))


@dataclass(frozen=True)
class TeacherHead:
    """A teacher's masked-word head.

    Attributes:
        transform: hidden states [M, H] to what enters the decoder, [M, E].
        weight_VE, bias_V: the decoder.
    """

    transform: Callable[[Tensor], Tensor]
    weight_VE: Tensor
    bias_V: Tensor

    @classmethod
    def of(cls, model: PretrainingModel) -> TeacherHead:
        """A model's own, its weights not copied."""
        return cls(model.mlm.transform, model.encoder.embeddings.word.weight, model.mlm.bias)

    def dense(self, rows_ME: Tensor) -> targets.Dense:
        """The whole distributions of what enters the decoder."""
        return targets.Dense(rows_ME, self.weight_VE, self.bias_V)


class Column(NamedTuple):
    """The numbers kept for a position: their dtype, one that numpy knows, and their shape."""

    dtype: torch.dtype
    shape: tuple[int, ...] = ()


class Decoded(NamedTuple):
    """What came back: the targets, and the last hidden states [M, H] where they were kept."""

    targets: targets.Targets
    hidden_MH: Tensor | None = None


class Codec(ABC):
    """Keeps a teacher's answers as columns. Nothing in it waits for the device.

    Attributes:
        config: what is kept.
        columns: what each position's row consists of, by the column's name.
        supplies: the losses it can feed: "ce", and "hidden" for all that compare last hidden states.
        needs_head: whether decoding needs the teacher's head.
    """

    supplies: frozenset[str] = frozenset({"ce"})
    needs_head = False

    def __init__(self, config: CodecConfig, teacher: ModelConfig) -> None:
        """ValueError where the teacher has not as many words as the codec is to keep."""
        self.config = config
        self.vocab_size = teacher.vocab_size
        self.columns = self._columns(teacher)

    @property
    def bytes_per_position(self) -> int:
        """Bytes of all columns' rows, without any compression."""
        return sum(column.dtype.itemsize * math.prod(column.shape) for column in self.columns.values())

    @torch.no_grad()
    def encode(self, head: TeacherHead, hidden_MH: Tensor, uniforms_M2: Tensor | None = None) -> dict[str, Tensor]:
        """The columns, each [M, ...], on the device of the hidden states.

        A row depends on its own hidden state and uniforms alone, as far as the device's matrix products do.

        Args:
            hidden_MH: the teacher's last hidden states at the masked positions.
            uniforms_M2: what `keyed_uniforms` says; `sampled` needs them, on the same device.
        """
        size = max(1, CHUNK // self.vocab_size)
        parts = [
            self._encode(head, hidden_MH[rows], None if uniforms_M2 is None else uniforms_M2[rows])
            for rows in (slice(begin, begin + size) for begin in range(0, max(1, len(hidden_MH)), size))
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.columns}

    @abstractmethod
    def decode(self, columns: dict[str, Tensor], head: TeacherHead | None = None) -> Decoded:
        """What columns say; `hidden` and `head` need the teacher's head, and compute in its dtype."""

    @abstractmethod
    def _columns(self, teacher: ModelConfig) -> dict[str, Column]: ...

    @abstractmethod
    def _encode(self, head: TeacherHead, hidden_CH: Tensor, uniforms_C2: Tensor | None) -> dict[str, Tensor]: ...

    def _distribution(self, head: TeacherHead, hidden_CH: Tensor) -> targets.Distribution:
        """The teacher's, at the temperature."""
        exact = torch.promote_types(hidden_CH.dtype, torch.float32)
        return head.dense(head.transform(hidden_CH)).distribution(slice(None), self.config.temperature, exact)

    def _id(self) -> torch.dtype:
        return torch.uint16 if self.vocab_size <= 2**16 else torch.int32


class HiddenCodec(Codec):
    """The last hidden state: the whole distribution through the teacher's head, and the target of hidden losses."""

    supplies = frozenset({"ce", "hidden"})
    needs_head = True

    @torch.no_grad()
    def decode(self, columns: dict[str, Tensor], head: TeacherHead | None = None) -> Decoded:
        assert head is not None, "hidden states are words only through the teacher's head"
        hidden_MH = _kept_rows(columns, head.weight_VE.dtype)
        return Decoded(head.dense(head.transform(hidden_MH)), hidden_MH)

    def _columns(self, teacher: ModelConfig) -> dict[str, Column]:
        return _row_columns(teacher.hidden_size, self.config.bits)

    def _encode(self, head: TeacherHead, hidden_CH: Tensor, uniforms_C2: Tensor | None) -> dict[str, Tensor]:
        return _keep_rows(hidden_CH, self.config.bits)


class HeadCodec(Codec):
    """What enters the decoder: the whole distribution, in less than the hidden state takes if E is factorised."""

    needs_head = True

    def decode(self, columns: dict[str, Tensor], head: TeacherHead | None = None) -> Decoded:
        assert head is not None, "what enters a decoder is words only through that decoder"
        return Decoded(head.dense(_kept_rows(columns, head.weight_VE.dtype)))

    def _columns(self, teacher: ModelConfig) -> dict[str, Column]:
        return _row_columns(teacher.embedding_size, self.config.bits)

    def _encode(self, head: TeacherHead, hidden_CH: Tensor, uniforms_C2: Tensor | None) -> dict[str, Tensor]:
        return _keep_rows(head.transform(hidden_CH), self.config.bits)


class TopKCodec(Codec):
    """The likeliest words and the mass of all others, made to sum to one again after rounding.

    In 8 bits log-probabilities are steps down from the likeliest of the K + 1 classes to the least.
    """

    def decode(self, columns: dict[str, Tensor], head: TeacherHead | None = None) -> Decoded:
        logs_MK1 = columns["logs"].float()
        if self.config.bits == 8:
            logs_MK1 = -logs_MK1 * columns["scale"].float()[:, None]
        ids_MK = columns["ids"].long()
        return Decoded(targets.TopK(ids_MK, logs_MK1.log_softmax(-1), self.config.temperature))

    def _columns(self, teacher: ModelConfig) -> dict[str, Column]:
        k = self.config.k
        if k >= self.vocab_size:
            raise ValueError(f"codec: k {k} must be below the vocabulary's {self.vocab_size}: use head to keep all")
        ids = {"ids": Column(self._id(), (k,))}
        if self.config.bits == 16:
            return ids | {"logs": Column(torch.float16, (k + 1,))}
        return ids | {"logs": Column(torch.uint8, (k + 1,)), "scale": Column(torch.float16)}

    def _encode(self, head: TeacherHead, hidden_CH: Tensor, uniforms_C2: Tensor | None) -> dict[str, Tensor]:
        teacher = self._distribution(head, hidden_CH)
        kept_CK, ids_CK = teacher.logits_CV.topk(self.config.k)
        others_C1 = teacher.logits_CV.scatter_(1, ids_CK, -math.inf).logsumexp(-1, keepdim=True)
        logs_CK1 = torch.cat([kept_CK, others_C1], 1) - teacher.normaliser_C1
        ids = {"ids": ids_CK.to(self._id())}
        if self.config.bits == 16:
            return ids | {"logs": logs_CK1.half()}
        down_CK1 = logs_CK1.amax(1, keepdim=True) - logs_CK1
        scale_C1 = _scale(down_CK1.amax(1, keepdim=True), _UINT8)
        steps_CK1 = (down_CK1 / scale_C1).round_().clamp_(max=_UINT8)
        return ids | {"logs": steps_CK1.to(torch.uint8), "scale": scale_C1[:, 0].half()}


class SampledCodec(Codec):
    """Words drawn from the teacher, each worth what makes their weighted count the distribution in the mean.

    Anshumann et al. 2025, "Sparse Logit Sampling", draw independently; here the N draws of a position are taken N
    evenly spaced steps apart along the cumulated probabilities, from one uniform start (systematic sampling). Each
    word's expected count is the same, and its variance less: a count is N q rounded up or down.

    A weight p / (q N), of a word of probability p that was drawn with q, is kept relative to the position's largest,
    rounded up or down at random so that rounding adds no bias.
    """

    def decode(self, columns: dict[str, Tensor], head: TeacherHead | None = None) -> Decoded:
        ids_MN = columns["ids"].long()
        if self._weighted:
            weights_MN = columns["weights"].float() * (columns["scale"] / self._levels)[:, None]
        else:
            weights_MN = torch.full_like(ids_MN, 1 / self.config.draws, dtype=torch.float32)
        best_M = columns["best"].long()
        return Decoded(targets.Sampled(ids_MN, weights_MN, columns["entropy"], best_M, self.config.temperature))

    @property
    def _weighted(self) -> bool:
        return self.config.exponent != 1

    @property
    def _levels(self) -> int:
        return 2**self.config.bits - 1

    def _columns(self, teacher: ModelConfig) -> dict[str, Column]:
        draws = self.config.draws
        columns = {"ids": Column(self._id(), (draws,)), "best": Column(self._id()), "entropy": Column(torch.float32)}
        if self._weighted:
            weights = torch.uint16 if self.config.bits == 16 else torch.uint8
            columns |= {"weights": Column(weights, (draws,)), "scale": Column(torch.float32)}
        return columns

    def _encode(self, head: TeacherHead, hidden_CH: Tensor, uniforms_C2: Tensor | None) -> dict[str, Tensor]:
        assert uniforms_C2 is not None, "draws need uniforms, keyed by what they are for"
        teacher = self._distribution(head, hidden_CH)
        entropy_C1 = teacher.normaliser_C1 - (teacher.probabilities_CV * teacher.logits_CV).sum(-1, keepdim=True)
        proposal = targets.Distribution.of(teacher.logits_CV * self.config.exponent) if self._weighted else teacher
        ids_CN = _systematic(proposal.probabilities_CV, uniforms_C2[:, 0], self.config.draws)
        columns = {
            "ids": ids_CN.to(self._id()),
            "best": teacher.best_C1[:, 0].to(self._id()),
            "entropy": entropy_C1[:, 0].float(),
        }
        if self._weighted:
            weights_CN = (teacher.logs(ids_CN) - proposal.logs(ids_CN)).exp_() / self.config.draws
            largest_C1 = weights_CN.amax(1, keepdim=True)
            # Of a draw alone, each of these is uniform: that is all that a mean of single roundings asks for.
            steps_N = torch.arange(self.config.draws, device=ids_CN.device) * _GOLDEN
            chances_CN = (uniforms_C2[:, 1:].double() + steps_N).frac_()
            kept_CN = (weights_CN / largest_C1 * self._levels + chances_CN).floor_().clamp_(max=self._levels)
            columns |= {"weights": kept_CN.to(self.columns["weights"].dtype), "scale": largest_C1[:, 0].float()}
        return columns


_CODECS: dict[str, type[Codec]] = {
    "hidden": HiddenCodec,
    "head": HeadCodec,
    "topk": TopKCodec,
    "sampled": SampledCodec,
}


def codec_of(config: CodecConfig, teacher: ModelConfig) -> Codec:
    """The codec that a config asks for, for a teacher of that shape. ValueError as `Codec`."""
    return _CODECS[config.kind](config, teacher)


def keyed_uniforms(
    seed: int, keys_M: npt.NDArray[np.uint64], copy: int, positions_M: npt.NDArray[np.integer]
) -> Tensor:
    """What positions' draws are made of: float32 [M, 2], in [0, 1), on the CPU.

    A function of the seed, the key of the sample, the masked copy and the place in the sample; so a teacher that is
    asked again, in whatever batch, draws the same.
    """
    first, second, _, _ = draws(key_of(seed, "soft targets"), keys_M, positions_M, copy)
    return torch.from_numpy((np.stack([first, second], 1) >> np.uint32(8)).astype(np.float32) / 2**24)


def _row_columns(width: int, bits: int) -> dict[str, Column]:
    if bits == 16:
        return {"rows": Column(torch.float16, (width,))}
    return {"rows": Column(torch.int8, (width,)), "scale": Column(torch.float16)}


def _keep_rows(rows_CE: Tensor, bits: int) -> dict[str, Tensor]:
    if bits == 16:
        return {"rows": rows_CE.half()}
    rows_CE = rows_CE.float()
    scale_C1 = _scale(rows_CE.abs().amax(1, keepdim=True), _INT8)
    steps_CE = (rows_CE / scale_C1).round_().clamp_(-_INT8, _INT8)
    return {"rows": steps_CE.to(torch.int8), "scale": scale_C1[:, 0].half()}


def _kept_rows(columns: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    rows_ME = columns["rows"]
    if "scale" not in columns:
        return rows_ME.to(dtype)
    return (rows_ME.float() * columns["scale"].float()[:, None]).to(dtype)


def _scale(peak: Tensor, levels: int) -> Tensor:
    """The size of a step, as fp16 holds it; not 0, so that a row of nothing is kept as nothing."""
    return (peak / levels).half().clamp_(min=2.0**-24).float()


def _systematic(probabilities_CV: Tensor, uniforms_C: Tensor, draws: int) -> Tensor:
    """Ids [C, draws], the words at evenly spaced points along the cumulated probabilities.

    Probabilities are rounded down to multiples of 2^-40.
    """
    cumulated_CV = (probabilities_CV / _UNIT).long().cumsum_(-1)
    points_CN = (uniforms_C.double()[:, None] + torch.arange(draws, device=uniforms_C.device)) / draws
    return torch.searchsorted(cumulated_CV, (points_CN * cumulated_CV[:, -1:]).long(), right=True)
