"""What a step reads, and how it falls into micro-batches: derived from its number and the world size.

A global batch is the next ``global_batch`` samples of the folders' epochs, which follow each other without end. It
is cut, in one canonical order, into world size x micro-steps parts of about equal tokens; rank r takes the r-th run
of parts. So every rank has the same number of micro-steps, and another world size changes nothing but the cuts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from litebert.data.batch import Counts
from litebert.data.corpus import Corpus
from litebert.data.mixture import Mixture
from litebert.data.order import Order
from litebert.data.split import Split

I64 = npt.NDArray[np.int64]
AUTO: Literal["auto"] = "auto"


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How training reads its data.

    Attributes:
        global_batch: samples per optimizer step, over all ranks.
        micro_tokens: tokens a rank processes at once, at most. It bounds memory, and changes results by rounding alone.
            auto: as many as there is memory for, found by trying some; a run that is continued on the same number and
            kind of devices keeps its number.
        seed: of the order.
        mixture: the shares of several --data folders in a batch, by the step from which they hold:
            {0: [1, 0], 9000: [0, 1]} is the first folder for 9000 steps, then the second. They need not add up to 1,
            and are kept to 1/65536. Each folder has its own epochs. Empty: its share is its number of samples.
        corrupt: at a block that is damaged, stop, or quarantine it: train without its samples, which the ledger
            lists. At a file that is missing training stops either way.
        cache: folder that keeps what is read from a --data URL.
        cache_gb: size that it keeps to, in GB.
    """

    global_batch: int = 256
    micro_tokens: int | Literal["auto"] = 8192
    seed: int = 1
    mixture: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    corrupt: Literal["stop", "quarantine"] = "stop"
    cache: str = "~/.cache/litebert"
    cache_gb: float = 20.0

    def __post_init__(self) -> None:
        positive = ["global_batch", "cache_gb", *(["micro_tokens"] if self.micro_tokens != AUTO else [])]
        problems = [f"{name} {getattr(self, name)} is not positive" for name in positive if getattr(self, name) <= 0]
        if self.mixture and min(self.mixture) != 0:
            problems.append(f"mixture begins at step {min(self.mixture)}: say the shares from step 0 on")
        problems += [
            f"mixture {shares} from step {begin} on: shares are 0 or more, and one of them is more than 0"
            for begin, shares in self.mixture.items()
            if not shares or min(shares) < 0 or not 0 < sum(shares) < float("inf")
        ]
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def budget(self) -> int:
        """``micro_tokens``, where it is a number: a session makes one of auto before it cuts batches."""
        assert isinstance(self.micro_tokens, int)
        return self.micro_tokens


@dataclasses.dataclass(frozen=True)
class Run:
    """Samples of one window of one epoch of one folder.

    Attributes:
        folder, epoch, window: where they are from.
        rows: places in the window, ascending.
        samples: the same, numbered as in the manifest.
        places: the same, in the planned batch.
    """

    folder: int
    epoch: int
    window: int
    rows: I64
    samples: I64
    places: I64

    def only(self, kept: npt.NDArray[np.bool_]) -> Run:
        """Some of its samples."""
        return dataclasses.replace(self, rows=self.rows[kept], samples=self.samples[kept], places=self.places[kept])


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """One step, the same on every rank.

    Attributes:
        number: of the step, from 0.
        runs: its samples in canonical order.
        lengths: tokens of each sample, in that order.
        counts: what losses are averaged over.
        quarantined: samples that were planned and are left out, numbered through the folders.
    """

    number: int
    runs: list[Run]
    lengths: I64
    counts: Counts
    quarantined: I64


class Plan:
    """The steps of a run."""

    def __init__(self, data: Corpus | Split, config: DataConfig, epochs: int | None = None) -> None:
        """With ``epochs``, of a single split, the last batch is what is left of them; else there is no end.

        Raises ValueError where a micro-batch cannot hold two samples, or the mixture does not fit the folders.
        """
        self.corpus = data if isinstance(data, Corpus) else Corpus([data])
        if config.micro_tokens != AUTO and config.budget < 2 * self.corpus.seq_length:
            raise ValueError(
                f"data.micro_tokens {config.micro_tokens} is less than two samples of the data"
                f" ({self.corpus.seq_length} tokens each); raise it to {2 * self.corpus.seq_length} or more"
            )
        splits = self.corpus.splits
        assert epochs is None or len(splits) == 1
        self._config = config
        self.mixture = Mixture([split.samples for split in splits], config.mixture, config.global_batch)
        self._last = None if epochs is None else epochs * splits[0].samples
        self._order = functools.lru_cache(maxsize=2 * len(splits))(
            lambda folder, epoch: Order(splits[folder].block_samples, splits[folder].content, config.seed, epoch)
        )

    def order(self, folder: int, epoch: int) -> Order:
        """The order of a folder's epoch."""
        return self._order(folder, epoch)

    @property
    def steps(self) -> int:
        """How many steps there are in the epochs. Only where their number was given."""
        assert self._last is not None
        return -(-self._last // self._config.global_batch)

    def taken(self, folder: int, steps: int) -> int:
        """Samples of a folder's epochs, end to end, that so many steps read."""
        taken = int(self.mixture.taken([steps])[0, folder])
        return taken if self._last is None else min(taken, self._last)

    def step(self, number: int) -> StepPlan:
        """The plan of a step, from its number alone."""
        runs: list[Run] = []
        placed = 0
        for folder, (begin, end) in enumerate(self.mixture.taken([number, number + 1]).T.tolist()):
            for run in self._runs(folder, begin, end if self._last is None else min(end, self._last), placed):
                runs.append(run)
                placed += len(run.rows)
        return self._measured(number, runs, np.empty(0, np.int64))

    def without(self, step: StepPlan, damaged: Callable[[int, int, int], I64]) -> StepPlan:
        """The step without the samples of damaged blocks.

        Args:
            damaged: of (folder, epoch, window), which of its blocks are, numbered as in the manifest.

        Raises ValueError where nothing is left.
        """
        runs, quarantined = [], []
        for run in step.runs:
            blocks = np.searchsorted(self.corpus.splits[run.folder].block_ends, run.samples, side="right")
            lost = np.isin(blocks, damaged(run.folder, run.epoch, run.window))
            quarantined.append(self.corpus.sample_begins[run.folder] + run.samples[lost])
            if not lost.all():
                runs.append(run.only(~lost))
        if not runs:
            raise ValueError(f"step {step.number}: all of its samples are in damaged blocks; build the shards again")
        return self._measured(step.number, runs, np.concatenate(quarantined))

    def cuts(self, step: StepPlan, world_size: int) -> I64:
        """Where micro-batches begin and end among the step's samples: int64 [world_size, micro-steps + 1].

        Raises ValueError where the batch has fewer samples than there are micro-batches to fill.
        """
        # Cutting at equal shares of the tokens makes no part larger than its share and one sample more.
        largest_share = self._config.budget - int(step.lengths.max())
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

    def _runs(self, folder: int, begin: int, end: int, placed: int) -> list[Run]:
        """Samples [begin, end) of a folder's epochs end to end; the first stands at a place of the batch."""
        runs = []
        size = self.corpus.splits[folder].samples
        while begin < end:
            epoch, place = divmod(begin, size)
            stop = min(place + end - begin, size)
            order = self.order(folder, epoch)
            for window, rows in order.between(place, stop):
                places = np.arange(placed, placed + len(rows))
                runs.append(Run(folder, epoch, window, rows, order.samples(window, rows), places))
                placed += len(rows)
            begin += stop - place
        return runs

    def _measured(self, number: int, runs: list[Run], quarantined: I64) -> StepPlan:
        lengths, masked, pairs = [], 0, 0
        for run in runs:
            split = self.corpus.splits[run.folder]
            lengths.append(split.lengths[run.samples])
            masked += int(split.counts[run.epoch % split.copies][run.samples].sum(dtype=np.int64))
            pairs += int(np.count_nonzero(split.paired[run.samples]))
        together = np.concatenate(lengths).astype(np.int64)
        counts = Counts(tokens=int(together.sum()), samples=len(together), masked=masked, pairs=pairs)
        return StepPlan(number, runs, together, counts, quarantined)
