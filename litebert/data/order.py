"""In which order an epoch reads its samples: a pure function of (content, seed, epoch).

Blocks are permuted; the samples of each window of consecutive blocks are permuted among themselves. So an
epoch is a permutation of all samples, any place of which is found without walking to it, and reading needs a
window in memory, not the corpus.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from data_tools.shards.keyed_rng import key_of, permutation

I64 = npt.NDArray[np.int64]

WINDOW_BLOCKS = 64


class Order:
    """The order of one epoch.

    Args:
        block_samples: samples of each block, in the order of the manifest.
        content: what identifies the samples (``Split.content``).
        seed: of the run.
        epoch: which one.
        window_blocks: blocks whose samples are shuffled together.
    """

    def __init__(
        self,
        block_samples: npt.ArrayLike,
        content: str,
        seed: int,
        epoch: int,
        window_blocks: int = WINDOW_BLOCKS,
    ) -> None:
        sizes = np.asarray(block_samples, np.int64)
        self._key = (content, seed, epoch)
        self._begins = np.cumsum(sizes) - sizes
        self._sizes = sizes
        self._window_blocks = window_blocks
        self._blocks = permutation(key_of(*self._key, "blocks"), len(sizes))
        windows = -(-len(sizes) // window_blocks)
        per_window = np.add.reduceat(sizes[self._blocks], np.arange(windows) * window_blocks)
        self._window_ends = np.cumsum(per_window)
        self._permuted = functools.lru_cache(maxsize=4)(self.permuted)

    def __len__(self) -> int:
        return int(self._window_ends[-1])

    @property
    def windows(self) -> int:
        """How many there are."""
        return len(self._window_ends)

    def window_at(self, place: int) -> int:
        """The window that a place of the epoch is in."""
        return int(np.searchsorted(self._window_ends, place, side="right"))

    def span(self, window: int) -> tuple[int, int]:
        """The places [begin, end) of a window in the epoch."""
        return int(self._window_ends[window - 1]) if window else 0, int(self._window_ends[window])

    def permuted(self, window: int) -> I64:
        """What stands at each place of a window: rows of the window, int64 [samples of the window]."""
        return permutation(key_of(*self._key, "window", window), int(self.sizes(window).sum()))

    def sizes(self, window: int) -> I64:
        """Samples of each of the window's blocks: int64 [at most window_blocks]."""
        return self._sizes[self.window_blocks(window)]

    def window_blocks(self, window: int) -> I64:
        """The blocks of a window, numbered as in the manifest, in reading order: int64 [at most window_blocks]."""
        return self._blocks[window * self._window_blocks : (window + 1) * self._window_blocks]

    def between(self, begin: int, end: int) -> list[tuple[int, I64]]:
        """What stands at places [begin, end) of the epoch.

        Returns:
            for each window that has a part in it, (window, rows): places among the samples of the window's blocks
            end to end, ascending, so that neighbours come from the same block.
        """
        found = []
        window = self.window_at(begin)
        while begin < end:
            window_begin, window_end = self.span(window)
            stop = min(end, window_end)
            found.append((window, np.sort(self._permuted(window)[begin - window_begin : stop - window_begin])))
            begin, window = stop, window + 1
        return found

    def samples(self, window: int, rows: I64) -> I64:
        """The samples at rows of a window, numbered as in the manifest: int64 [rows]."""
        blocks = self.window_blocks(window)
        sizes = self._sizes[blocks]
        ends = np.cumsum(sizes)
        place = np.searchsorted(ends, rows, side="right")
        return (self._begins[blocks] - (ends - sizes))[place] + rows
