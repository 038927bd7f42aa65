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
