"""A split in the order it is stored in: many blocks at a time, and micro-batches of equally long samples of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_tools.shards.blocks import Block, join
from data_tools.shards.keys import sample_keys
from litebert.data.batch import Counts, MicroBatch, micro_batch
from litebert.data.columns import Columns
from litebert.data.split import Split

_BLOCKS = 64  # read at a time


def parts(split: Split) -> Iterator[Block]:
    """All of a split, with its first masked copy. Raises as ``Split.block``."""
    blocks = range(len(split.block_samples))
    for begin in blocks[::_BLOCKS]:
        yield join([split.block(number, copy=0) for number in blocks[begin : begin + _BLOCKS]])


def columns_of(block: Block) -> Columns:
    """What a model is asked of a block."""
    samples, masks = block.samples, block.masks
    return Columns(
        ids=samples.ids.astype(np.uint32),
        lengths=samples.lengths.astype(np.uint16),
        first=samples.first.astype(np.uint16),
        order=samples.order,
        keys=sample_keys(samples.documents, samples.numbers),
        positions=masks.positions.astype(np.uint16),
        inputs=masks.inputs.astype(np.uint32),
        counts=masks.counts.astype(np.uint16),
    )


def micro_batches(columns: Columns, tokens: int) -> Iterator[tuple[npt.NDArray[np.int64], MicroBatch]]:
    """All samples, those that are about as long together, as rows of the columns and as they are asked.

    Args:
        tokens: of a micro-batch, at most; or of one sample more.
    """
    order = np.argsort(columns.lengths, kind="stable")
    ends = np.cumsum(columns.lengths[order], dtype=np.int64)
    for rows in np.split(order, np.flatnonzero(np.diff((ends - 1) // tokens)) + 1):
        if len(rows):
            counts = Counts(
                tokens=int(columns.lengths[rows].sum(dtype=np.int64)),
                samples=len(rows),
                masked=int(columns.counts[rows].sum(dtype=np.int64)),
                pairs=int(np.count_nonzero(columns.order[rows] >= 0)),
            )
            yield rows, micro_batch(columns, rows, counts)
