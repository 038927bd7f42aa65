"""Where soft targets come from: one interface, whether a teacher is at hand or its answers arrive in some other way.

Shape suffixes: B = samples, M = masked positions, T = packed tokens, R = M or T, H = hidden size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from litebert.data.batch import MicroBatch
from litebert.distill.codecs import Codec, TeacherHead
from litebert.distill.config import DistillConfig
from litebert.distill.states import Wanted
from litebert.distill.targets import Mean, Targets
from litebert.distill.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class SoftTargets:
    """What a teacher says of a micro-batch, as far as it was asked.

    Attributes:
        words: its distributions over the vocabulary, of R rows.
        hidden_RH: its hidden states, by its layer, numbered from 1.
        pairs_B2: logits of its pair head, or None.
        qkv_TH: queries, keys and values of its last layer's attention, all heads end to end, or None.
    """

    words: Targets
    hidden_RH: Mapping[int, Tensor]
    pairs_B2: Tensor | None
    qkv_TH: tuple[Tensor, ...] | None


class Source(Protocol):
    """Gives the soft targets of micro-batches, in any order, and again for the same one.

    No module: a student's engine must not find a teacher's parameters in it.
    """

    def __call__(self, batch: MicroBatch) -> SoftTargets:
        """Those of a micro-batch on the student's device, on that device, without gradients."""
        ...


class Live:
    """Teachers in the student's own process. Of several, the probabilities are averaged."""

    def __init__(self, teachers: Sequence[Teacher], wanted: Wanted, temperature: float) -> None:
        """Args:
        wanted: what the losses need of a teacher.
        temperature: at which the probabilities of pairs are averaged; those of words are at any.

        Raises ValueError where the teachers have not what is wanted.
        """
        problems = [f"{each.location} has no pair head" for each in teachers if wanted.pairs and not each.model.pair]
        if problems:
            raise ValueError(f"distill.sop: {'; '.join(problems)}: set it to 0")
        if len(teachers) > 1 and (wanted.layers or wanted.relations):
            raise ValueError(
                f"{len(teachers)} teachers: only what they say can be averaged, not their hidden states: give one "
                "--teacher, or set distill.cos, distill.hidden and distill.relation to 0"
            )
        self._teachers, self._wanted, self._temperature = tuple(teachers), wanted, temperature

    @torch.no_grad()
    def __call__(self, batch: MicroBatch) -> SoftTargets:
        read = [(teacher, teacher.read(batch, self._wanted)) for teacher in self._teachers]
        words = tuple(teacher.words(states) for teacher, states in read)
        pairs_B2 = None
        if self._wanted.pairs:
            logits = [teacher.pairs(states) for teacher, states in read]
            pairs_B2 = logits[0] if len(logits) == 1 else self._mean(logits)
        _, first = read[0]
        return SoftTargets(words[0] if len(words) == 1 else Mean(words), first.hidden_RH, pairs_B2, first.qkv_TH)

    def _mean(self, logits: list[Tensor]) -> Tensor:
        """Logits whose probabilities, at the temperature, are the mean of the teachers'."""
        exact = torch.promote_types(logits[0].dtype, torch.float32)
        shares = torch.stack([(each.to(exact) / self._temperature).softmax(-1) for each in logits])
        return shares.mean(0).log() * self._temperature


class Stored:
    """Answers that were read with the data, and hold for whoever asks.

    Args:
        codec: that keeps them.
        head: the teacher's, on the student's device, where the codec needs it.
        last: the number of the teacher's last layer, whose hidden states codec ``hidden`` keeps.
    """

    def __init__(self, codec: Codec, head: TeacherHead | None, last: int) -> None:
        self._codec, self._head, self._last = codec, head, last

    @torch.no_grad()
    def __call__(self, batch: MicroBatch) -> SoftTargets:
        assert batch.soft is not None, "the data are read without soft targets"
        decoded = self._codec.decode(batch.soft, self._head)
        hidden_RH = {} if decoded.hidden_MH is None else {self._last: decoded.hidden_MH}
        return SoftTargets(decoded.targets, hidden_RH, None, None)


def check_supply(codec: Codec, losses: DistillConfig) -> None:
    """Raises ValueError, with a fix for each, where losses want what a codec does not keep."""
    kind, temperature = codec.config.kind, codec.config.temperature
    problems = []
    if not codec.needs_head and losses.temperature != temperature:
        problems.append(
            f"distill.temperature {losses.temperature}, and codec {kind} was kept at {temperature}: set it to "
            f"{temperature}, or teach with --codec.temperature {losses.temperature} or --codec.kind head"
        )
    if losses.ce_at == "all":
        problems.append(f"distill.ce_at all, and codec {kind} keeps masked places alone: set it to masked")
    for name in ("cos", "hidden"):
        if not getattr(losses, name):
            continue
        if "hidden" not in codec.supplies:
            problems.append(
                f"distill.{name}, and codec {kind} keeps no hidden states: set it to 0, or teach with "
                "--codec.kind hidden"
            )
        elif losses.map == "all" or losses.hidden_at == "all":
            what = "distill.map all" if losses.map == "all" else "distill.hidden_at all"
            instead = "last" if losses.map == "all" else "masked"
            problems.append(f"{what}, and codec {kind} keeps the last layer's masked places: set it to {instead}")
    problems += [
        f"distill.{name}, and codec {kind} keeps nothing for it: set it to 0"
        for name in ("sop", "relation")
        if getattr(losses, name)
    ]
    if problems:
        raise ValueError(f"soft targets: {'; '.join(dict.fromkeys(problems))}; or give --teacher alone")
