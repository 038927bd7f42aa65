"""How fast a run goes, what it waits for, and how much memory it takes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping

import torch

from litebert.data.batch import Step
from litebert.train.room import peak
from litebert.train.world import World


class Rates:
    """What was done since the last line, and how long it took."""

    def __init__(
        self,
        world: World,
        operations: Callable[[Step], float],
        peak: float,
        waited: Callable[[], float],
        others: Callable[[], Mapping[str, float]],
    ) -> None:
        """Args:
        operations: floating-point operations of this rank's part of a step.
        peak: that its device can do in a second.
        waited: seconds so far in which data waited for a teacher's answers.
        others: figures of other machines since it was called before; rank 0 calls it.
        """
        self._world, self._operations, self._peak = world, operations, peak
        self._soft_waited, self._others = waited, others
        if world.leads:
            others()  # whose figures begin here as well
        self._clear()

    def timed(self, steps: Iterable[Step]) -> Generator[Step]:
        """The same steps; counts the time that training waits for them."""
        steps = iter(steps)
        while True:
            begun, soft_begun = time.monotonic(), self._soft_waited()
            step = next(steps, None)
            self._waited += time.monotonic() - begun
            self._waited_soft += self._soft_waited() - soft_begun
            if step is None:
                return
            yield step

    def add(self, step: Step) -> None:
        """Counts a step that was trained."""
        self._tokens += step.counts.tokens
        self._soft += sum(rows.nbytes for batch in step.micro_batches for rows in (batch.soft or {}).values())
        self._done += self._operations(step)

    def stalled(self, name: str, seconds: float) -> None:
        """Counts time that training stood still: a figure of its own, not charged to the speed."""
        self._stalls[name] += seconds

    def take(self) -> dict[str, float]:
        """The figures since the last time. Collective.

        Returns:
            tokens_per_s; mfu, the share of the devices' matrix rate that went into the model's products; loader_wait,
            the mean share of time that ranks waited for data; memory_gb, the most that a rank has had; if a teacher's
            answers came with the data, soft_mb_per_s, how much, and soft_wait, the part of loader_wait in which data
            waited for them; on rank 0 what others have to say; and the seconds of what training stood still for, by
            name.
        """
        ranks = torch.zeros(self._world.size, 5, dtype=torch.float64)
        own = [self._done / self._peak, self._waited, float(peak(self._world.device)), self._soft, self._waited_soft]
        ranks[self._world.rank] = torch.tensor(own)
        self._world.control.total(ranks)
        seconds = max(time.monotonic() - self._since - sum(self._stalls.values()), 1e-9)
        worked, waited, memory, soft, waited_soft = ranks.T
        of_soft = {
            "soft_mb_per_s": float(soft.sum()) / 1e6 / seconds,
            "soft_wait": float(waited_soft.mean()) / seconds,
        }
        figures = {
            "tokens_per_s": self._tokens / seconds,
            "mfu": float(worked.mean()) / seconds,
            "loader_wait": float(waited.mean()) / seconds,
            "memory_gb": float(memory.max()) / 1e9,
            **(of_soft if soft.any() else {}),
            **(self._others() if self._world.leads else {}),
            **self._stalls,
        }
        self._clear()
        return figures

    def _clear(self) -> None:
        self._tokens, self._soft, self._done, self._waited, self._waited_soft = 0, 0, 0.0, 0.0, 0.0
        self._stalls: dict[str, float] = defaultdict(float)
        self._since = time.monotonic()
