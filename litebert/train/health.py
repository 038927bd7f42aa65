"""Whether training goes well: steps that went bad are told apart, and several in a row are gone back behind."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

FEWEST = 16  # losses that a spike is judged against


@dataclasses.dataclass(frozen=True)
class HealthConfig:
    """What counts as a bad step, and what is done about it.

    A step with a loss or gradient that is not finite changes nothing: weights, moments and the count of updates stay.
    A step with a spike of the loss does change them. Several bad ones in a row take the run back to the newest
    checkpoint from before the first, and their batches are left out from then on.

    Attributes:
        max_bad_steps: bad steps in a row that take the run back; 0 never does.
        spike_deviations: standard deviations above the mean of the last good losses at which a loss is a spike; 0 is
            for no such judgement.
        spike_window: how many of the last good losses.
        plateau_steps: steps after which the loss of masked words should have left the unigram loss behind, where an
            ALBERT that does not learn is stuck; 0 is for no such warning.
        plateau_nats: by how much.
    """

    max_bad_steps: int = 3
    spike_deviations: float = 8.0
    spike_window: int = 100
    plateau_steps: int = 2000
    plateau_nats: float = 0.1

    def __post_init__(self) -> None:
        problems = [
            f"{field.name} {getattr(self, field.name)} is negative"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) < 0
        ]
        if self.spike_window < FEWEST:
            problems.append(f"spike_window {self.spike_window} is less than the {FEWEST} that can be judged by")
        if problems:
            raise ValueError("; ".join(problems))


class RollBack(Exception):
    """Training is to go on from before a batch, without the batches that went bad.

    Attributes:
        first, last: those batches, numbered as steps.
        reason: what was wrong with them.
    """

    def __init__(self, first: int, last: int, reason: str) -> None:
        super().__init__(f"steps {first} to {last} went bad ({reason})")
        self.first, self.last, self.reason = first, last, reason


class Health:
    """Judges the losses of a run as they come in; a pure function of them, so that all ranks judge alike."""

    def __init__(self, config: HealthConfig, begun: Mapping[str, Any] | None) -> None:
        """Args:
        config: the recipe's.
        begun: what ``begun`` returned for the checkpoint that the run resumes from, or None.
        """
        begun = begun or {"good": [], "bad": []}
        self._config = config
        self._good: deque[float] = deque(begun["good"], maxlen=config.spike_window)
        self._bad: list[int] = list(begun["bad"])
        self._warned = False

    @property
    def troubled(self) -> bool:
        """Whether the last steps judged were bad: no time for a checkpoint."""
        return bool(self._bad)

    def begun(self) -> dict[str, Any]:
        """What it knows, for a checkpoint."""
        return {"good": list(self._good), "bad": self._bad}

    def judge(self, step: int, loss: float) -> None:
        """Takes in the loss of a step, over all ranks; not a number where the step was not taken.

        Raises:
            RollBack: there were too many bad steps in a row.
        """
        reason = self._complaint(loss)
        if not reason:
            self._good.append(loss)
            self._bad = []
            return
        self._bad.append(step)
        if len(self._bad) == self._config.max_bad_steps:
            raise RollBack(self._bad[0], step, reason)

    def plateau(self, step: int, mlm: float, unigram: float) -> str:
        """A warning, once, where the loss of masked words is still that of guessing by frequency; else empty.

        Args:
            step: optimizer steps done.
            mlm: mean loss of masked words over the last steps, in nats.
            unigram: the loss of always answering with the frequencies of the training text, in nats.
        """
        late = 0 < self._config.plateau_steps <= step
        if self._warned or not late or mlm < unigram - self._config.plateau_nats:
            return ""
        self._warned = True
        return (
            f"warning: after {step} steps the loss of masked words, {mlm:.2f}, is still that of guessing by frequency, "
            f"{unigram:.2f}: the model is stuck; it often helps to lower optimizer.lr, to lengthen "
            "schedule.warmup_steps, or to make data.global_batch larger"
        )

    def _complaint(self, loss: float) -> str:
        if not math.isfinite(loss):
            return "a loss or gradient that is not finite"
        if self._config.spike_deviations and len(self._good) >= FEWEST:
            mean, deviation = statistics.fmean(self._good), statistics.pstdev(self._good)
            if loss > mean + self._config.spike_deviations * deviation:
                return f"a loss of {loss:.3f} after a mean of {mean:.3f}"
        return ""
