"""A teacher's answers to the masked tokens of a block: a function of the block, the copy, the teacher and the codec.

Whoever asks, and for whatever it is: the samples are cut into micro-batches in one way, so that on one kind of device
the same bits come out each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from litebert.data.batch import Counts, micro_batch
from litebert.data.columns import Columns, ranges
from litebert.distill.codecs import Codec, TeacherHead, keyed_uniforms
from litebert.distill.states import Wanted
from litebert.distill.teacher import Teacher

I64 = npt.NDArray[np.int64]

MICRO_TOKENS = 16384  # that the teacher reads at once; other numbers would give other bits


@dataclasses.dataclass(frozen=True)
class Answering:
    """A teacher that answers block by block.

    Attributes:
        teacher: on the device, and in the dtype, that it computes with.
        codec: what is kept of its answers.
        seed: of draws, where the codec makes some.
    """

    teacher: Teacher
    codec: Codec
    seed: int = 1

    @torch.no_grad()
    def answers(self, block: Columns, copy: int) -> dict[str, npt.NDArray]:
        """The codec's columns, each [masked, ...], in the order of the block's masked tokens, on the host.

        Args:
            block: a whole block, with one masked copy.
            copy: which one; draws are another's for each.

        Raises ValueError where they are not finite, for they would teach nothing else.
        """
        masked, answered = zip(
            *((masked, self._answered(block, rows, copy)) for rows, masked in _cut(block)), strict=True
        )
        back = np.argsort(np.concatenate(masked))
        return {name: np.concatenate([part[name] for part in answered])[back] for name in self.codec.columns}

    def _answered(self, block: Columns, rows: I64, copy: int) -> dict[str, npt.NDArray]:
        """Of some samples, in the order of rows."""
        model, lengths, masks = self.teacher.model, block.lengths[rows], block.counts[rows]
        counts = Counts(tokens=int(lengths.sum()), samples=len(rows), masked=int(masks.sum()), pairs=0)
        device = model.mlm.bias.device
        batch = micro_batch(block, rows, counts).to(device)
        uniforms_M2 = None
        if self.codec.config.kind == "sampled":
            places = block.positions[ranges(block.masks_begin[rows], masks)]
            uniforms_M2 = keyed_uniforms(self.seed, np.repeat(block.keys[rows], masks), copy, places).to(device)
        hidden_MH = self.teacher.read(batch, Wanted()).words_RH
        columns = self.codec.encode(TeacherHead.of(model), hidden_MH, uniforms_M2)
        answered = {name: column.cpu().numpy() for name, column in columns.items()}
        # Of every codec a column is of floats, and shows what became of a row's other numbers.
        if not all(np.isfinite(column).all() for column in answered.values() if column.dtype.kind == "f"):
            raise ValueError(
                f"{self.teacher.location}: what it answers is not finite in {model.mlm.bias.dtype}, or "
                f"not in the 16 bits of codec {self.codec.config.kind}: give a sound teacher, or --precision fp32"
            )
        return answered


def _cut(block: Columns) -> Iterator[tuple[I64, I64]]:
    """Samples of micro-batches, by length, the shortest first; and which of the block's masked tokens are theirs."""
    by_length = np.argsort(block.lengths, kind="stable")
    ends = np.cumsum(block.lengths[by_length], dtype=np.int64)
    begin = 0
    while begin < len(by_length):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + MICRO_TOKENS, side="right")))
        rows = by_length[begin:end]
        yield rows, ranges(block.masks_begin[rows], block.counts[rows])
        begin = end
