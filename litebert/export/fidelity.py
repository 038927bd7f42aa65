"""How far a quantised model's words are from the model's own, on masked text: what cannot be equal is measured.

Shape suffixes: B = samples, L = tokens of the longest, T = their tokens end to end, M = masked tokens, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from litebert.data.batch import MicroBatch
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.export.parity import INPUTS, Answer
from litebert.model.heads import PretrainingModel

ENOUGH = 2000  # masked tokens to measure on
# Beyond these int8 has made another model. A model at 0.2 nats and 66 % kept its scores on tasks (docs/export.md).
KL_LIMIT, AGREEMENT_LIMIT = 0.5, 0.5
_BATCH = 16  # samples; at 512 tokens of Google's vocabulary their logits are 0.7 GB


@dataclass(frozen=True)
class Fidelity:
    """Means over masked tokens.

    Attributes:
        kl: KL(model || quantised), nats.
        agreement: share of them of which both think the same word likeliest.
        masked: how many there were.
    """

    kl: float
    agreement: float
    masked: int

    def __str__(self) -> str:
        return f"KL {self.kl:.4f} nats, same likeliest word {self.agreement:.1%}, over {self.masked:,} masked tokens"

    @property
    def remark(self) -> str:
        """What is wrong where the two are far apart, and what to do; empty where they are not."""
        if self.kl <= KL_LIMIT and self.agreement >= AGREEMENT_LIMIT:
            return ""
        return (
            f"in int8 this is another model (KL {self.kl:.2g} nats, same likeliest word {self.agreement:.0%}): leave "
            "out --quantize int8, or fine-tune it and measure with --task what is left of its score"
        )


def measure(model: PretrainingModel, answer: Answer, batches: Iterable[MicroBatch]) -> Fidelity:
    """Compare a model with a quantised one's answers. The model decides on the CPU, in fp32."""
    kl = same = 0.0
    masked = 0
    for batch in batches:
        with torch.inference_mode():
            ours_MV = model(batch.ids, batch.token_types, batch.packing, batch.masked).mlm_logits_MV.log_softmax(-1)
            length_B = torch.from_numpy(batch.packing.lengths)
            valid_BL = torch.arange(batch.packing.max_length) < length_B[:, None]
            values = (batch.ids, torch.ones_like(batch.ids), batch.token_types)
            padded = {name: _padded(value_T, valid_BL) for name, value_T in zip(INPUTS, values, strict=True)}
            theirs_MV = answer(padded)[0][valid_BL][batch.masked].log_softmax(-1)
            kl += float((ours_MV.exp() * (ours_MV - theirs_MV)).sum(dtype=torch.float64))
            same += float((ours_MV.argmax(-1) == theirs_MV.argmax(-1)).sum())
        masked += len(batch.masked)
    return Fidelity(kl / masked, same / masked, masked)


def heldout(split: Split) -> Iterator[MicroBatch]:
    """Masked text of a split, in an order that is always the same: ENOUGH masked tokens, or all there are."""
    batch = min(_BATCH, split.samples)
    found = 0
    for step in Loader(split, DataConfig(batch, micro_tokens=max(batch, 2) * split.seq_length), rank=0, world_size=1):
        yield from step.micro_batches
        found += step.counts.masked
        if found >= ENOUGH:
            return


def _padded(value_T: Tensor, valid_BL: Tensor) -> Tensor:
    return value_T.new_zeros(valid_BL.shape).masked_scatter(valid_BL, value_T)
