"""What a step reads, and how it falls into micro-batches: derived from its number and the world size.

A global batch is the next ``global_batch`` samples of the epochs end to end. It is cut, in one canonical order,
into world size x micro-steps runs of about equal tokens; rank r takes the r-th run of runs. So every rank has
the same number of micro-steps, and another world size changes nothing but the cuts.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np
import numpy.typing as npt

from litebert.data.batch import Counts
from litebert.data.order import Order
from litebert.data.split import Split

I64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How training reads its data.

    Attributes:
        global_batch: samples per optimizer step, over all ranks.
        micro_tokens: tokens a rank processes at once, at most.
        seed: of the order.
    """

    global_batch: int = 256
    micro_tokens: int = 8192
    seed: int = 1

    def __post_init__(self) -> None:
        problems = []
        if self.global_batch < 1:
            problems.append(f"global_batch {self.global_batch} is not positive")
        if self.micro_tokens < 1:
            problems.append(f"micro_tokens {self.micro_tokens} is not positive")
        if problems:
            raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Run:
    """Samples of one window of one epoch.

    Attributes:
        epoch, window: where they are from.
        rows: places in the window, ascending.
        samples: the same, numbered as in the manifest.
    """

    epoch: int
    window: int
    rows: I64
    samples: I64


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """One step, the same on every rank.

    Attributes:
        number: of the step, from 0.
        epoch: that it begins in.
        runs: its samples in canonical order.
        lengths: tokens of each sample, in that order.
        counts: what losses are averaged over.
        digest: of the samples and epochs, in hex.
    """

    number: int
    epoch: int
    runs: list[Run]
    lengths: I64
    counts: Counts
    digest: str


class Plan:
    """The steps of a run."""

    def __init__(self, split: Split, config: DataConfig, epochs: int | None = None) -> None:
        """With ``epochs``, the last batch is what is left of them; else one epoch follows another without end.

        Raises ValueError where a micro-batch cannot hold two samples.
        """
        if config.micro_tokens < 2 * split.seq_length:
            raise ValueError(
                f"data.micro_tokens {config.micro_tokens} is less than two samples of the data"
                f" ({split.seq_length} tokens each); raise it to {2 * split.seq_length} or more"
            )
        self._split, self._config = split, config
        self._last = None if epochs is None else epochs * split.samples
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: Order(split.block_samples, split.fingerprint, config.seed, epoch)
        )

    def order(self, epoch: int) -> Order:
        """The order of an epoch."""
        return self._order(epoch)

    @property
    def steps(self) -> int:
        """How many steps there are in the epochs. Only where their number was given."""
        assert self._last is not None
        return -(-self._last // self._config.global_batch)

    def step(self, number: int) -> StepPlan:
        """The plan of a step, from its number alone."""
        begin = number * self._config.global_batch
        end = begin + self._config.global_batch
        if self._last is not None:
            end = min(end, self._last)
        runs = []
        while begin < end:
            epoch, place = divmod(begin, self._split.samples)
            stop = min(place + end - begin, self._split.samples)
            order = self.order(epoch)
            runs += [Run(epoch, w, rows, order.samples(w, rows)) for w, rows in order.between(place, stop)]
            begin += stop - place
        lengths = np.concatenate([self._split.lengths[run.samples] for run in runs]).astype(np.int64)
        counts = Counts(
            tokens=int(lengths.sum()),
            samples=len(lengths),
            masked=sum(
                int(self._split.counts[run.epoch % self._split.copies][run.samples].sum(dtype=np.int64)) for run in runs
            ),
            pairs=sum(int(self._split.paired[run.samples].sum(dtype=np.int64)) for run in runs),
        )
        return StepPlan(number, runs[0].epoch, runs, lengths, counts, _digest(runs))

    def cuts(self, step: StepPlan, world_size: int) -> I64:
        """Where micro-batches begin and end among the step's samples: int64 [world_size, micro-steps + 1].

        Raises ValueError where the batch has fewer samples than there are micro-batches to fill.
        """
        # Cutting at equal shares of the tokens makes no part larger than its share and one sample more.
        largest_share = self._config.micro_tokens - int(step.lengths.max())
        micro_steps = -(-step.counts.tokens // (world_size * largest_share))
        parts = world_size * micro_steps
        if len(step.lengths) < parts:
            raise ValueError(
                f"data.global_batch {len(step.lengths)} is too few samples for {world_size} ranks with"
                f" {micro_steps} micro-batches each; raise it, or data.micro_tokens, or use fewer ranks"
            )
        shares = np.arange(1, parts) * (step.counts.tokens / parts)
        middle = np.searchsorted(np.cumsum(step.lengths), shares, side="left") + 1
        # No part may be empty, however long a neighbour is.
        free = np.clip(middle - np.arange(1, parts), 0, len(step.lengths) - parts)
        edges = np.concatenate([[0], np.maximum.accumulate(free) + np.arange(1, parts), [len(step.lengths)]])
        begins = np.arange(world_size)[:, None] * micro_steps + np.arange(micro_steps + 1)
        return edges[begins].astype(np.int64)


def _digest(runs: list[Run]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for run in runs:
        digest.update(np.int64(run.epoch).tobytes())
        digest.update(run.samples.tobytes())
    return digest.hexdigest()
