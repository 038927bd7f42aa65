"""Pairs that were none: each first segment with the second segment of another document.

Sentence-order prediction is meant to need coherence, where next-sentence prediction can be told by topic (Lan et al.
2020, section 3.1). Between strangers there is no coherence, and the topic changes. What a pair head still knows of
their order it reads from each segment alone, and what it makes of the change of topic shows in what it calls them.
"""

from __future__ import annotations

import numpy as np

from data_tools.shards.blocks import Block
from litebert.data.columns import Columns, ranges
from litebert.evaluate.parts import columns_of


def strangers(block: Block) -> Columns:
    """Pairs of a block's segments, as they are masked, that stood in their own pairs in the same order.

    Of the pairs of one order, by the length of their second segments, the longest first, each gets the second segment
    of the next one that is of another document. So it is not longer than its own was, and about as long; the pairs at
    the end, after which no other document comes, are left out.

    Returns:
        samples without masked tokens, by order and then length; their order is what it was for both segments.
    """
    samples, columns = block.samples, columns_of(block)
    pairs = np.flatnonzero(samples.order >= 0)
    second = samples.lengths - samples.first - 2  # the [SEP] at its end too
    pairs = pairs[np.lexsort((-second[pairs], samples.order[pairs]))]
    order, documents = samples.order[pairs], samples.documents[pairs]
    changes = np.flatnonzero((np.diff(order) != 0) | (np.diff(documents) != 0)) + 1
    following = np.append(changes, len(pairs))[np.searchsorted(changes, np.arange(len(pairs)), side="right")]
    met = following < len(pairs)
    met[met] = order[met] == order[following[met]]
    firsts, seconds = pairs[met], pairs[following[met]]

    shown = columns.ids.copy()
    shown[np.repeat(columns.begins, columns.counts) + columns.positions] = columns.inputs
    from_first = samples.first[firsts] + 2  # [CLS] A [SEP]
    begins = np.stack([columns.begins[firsts], columns.begins[seconds] + samples.first[seconds] + 2], 1)
    lengths = np.stack([from_first, second[seconds]], 1)
    return Columns(
        ids=shown[ranges(begins.ravel(), lengths.ravel())],
        lengths=lengths.sum(1).astype(np.uint16),
        first=columns.first[firsts],
        order=samples.order[firsts],
        keys=columns.keys[firsts],
        positions=columns.positions[:0],
        inputs=columns.inputs[:0],
        counts=np.zeros(len(firsts), np.uint16),
    )
