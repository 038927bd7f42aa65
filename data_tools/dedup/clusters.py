"""Pairs of near duplicates joined into clusters, each represented by its first document."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from data_tools.dedup.corpus import Corpus
from data_tools.dedup.repeats import Pairs, read_pairs
from data_tools.shards.keyed_rng import U64

_BATCH_PAIRS = 1 << 21


@dataclasses.dataclass(frozen=True)
class Clusters:
    """A stage of one item: the clusters of all near duplicates.

    Memory grows with the documents that are near duplicates, and with nothing else: 16 bytes for each, about 80 while
    a batch of pairs is joined to them, so 1 GB holds ten million.
    """

    corpus: Corpus
    name: str = "clusters"

    def items(self) -> list[str]:
        """The one item."""
        return ["all"]

    def run(self, item: str, folder: Path) -> None:
        """Write the positions of all but the first documents of the clusters, and beside each the cluster's first."""
        repeated = first = np.zeros(0, np.uint64)
        for near in self.corpus.work.finished("near"):
            more, of = read_pairs(self.corpus.work.path("near", near))
            for begin in range(0, len(more), _BATCH_PAIRS):
                some = slice(begin, begin + _BATCH_PAIRS)
                repeated, first = joined(np.concatenate([repeated, more[some]]), np.concatenate([first, of[some]]))
        with Pairs(folder) as pairs:
            pairs.write(repeated, first)


def joined(left: U64, right: U64) -> tuple[U64, U64]:
    """The connected components of a graph.

    Args:
        left, right: the ends of the edges, uint64 [edges].

    Returns:
        Each node that is not the smallest of its component, ascending, and the smallest.
    """
    nodes, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    parents = np.arange(len(nodes))
    a, b = ends[: len(left)], ends[len(left) :]
    while len(a):
        # Hang the larger root of each edge below the smallest that it meets, then shorten every path to its root.
        np.minimum.at(parents, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(parents, above := parents[parents]):
            parents = above
        a, b = parents[a], parents[b]
        apart = a != b
        a, b = a[apart], b[apart]
    others = parents != np.arange(len(nodes))
    return nodes[others], nodes[parents[others]]
