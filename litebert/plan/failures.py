"""Time that a run loses to machines that fail, and how often it should keep a checkpoint.

Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps" (2006), with failures as a Poisson
process; Young (1974) is its first term.
"""

from __future__ import annotations

import dataclasses
import math

from scipy.special import lambertw

DAY = 86400.0
NODE_MTBF = 264 * DAY  # Llama 3 (Grattafiori et al. 2024): 419 unexpected stops of 2,048 nodes in 54 days
RESTART = 300.0  # from a failure to the first new step: the requeue, imports, the model, the loader
COPIED = 5e9  # bytes per second of the copy that training stands still for; measured between two places of a memory
ROUNDING = 1e-10  # of a stall's share of the mtbf, below which Young's term is the more exact
STORED = 2.5e8  # bytes per second that are hashed and written beside training, measured on two busy cores


@dataclasses.dataclass(frozen=True)
class Failures:
    """What there is to lose, all in seconds.

    Attributes:
        mtbf: between two failures of the whole run: a node's, divided by how many there are.
        stall: that training stands still for a checkpoint.
        written: from then until it can be gone on from.
        restart: from a failure until training goes on.

    Raises ValueError for an ``mtbf`` of 0; infinite, nothing fails.
    """

    mtbf: float
    stall: float
    written: float
    restart: float = RESTART

    def __post_init__(self) -> None:
        if not self.mtbf > 0:
            raise ValueError(
                f"{self.mtbf} s between two failures of the run is not above 0: fewer nodes, or better ones"
            )

    @classmethod
    def of_run(cls, nodes: int, kept: float, node_mtbf: float = NODE_MTBF) -> Failures:
        """Of a run whose checkpoint is of so many bytes, which one process copies and writes."""
        return cls(node_mtbf / nodes, kept / COPIED, kept / STORED)

    @property
    def interval(self) -> float:
        """Between two checkpoints, of training: the one that loses least, but no shorter than writing takes.

        The root of d share / d interval: M (1 + W(-exp(-1 - stall / M))), Lambert's W on its main branch, which is
        sqrt(2 stall M), Young's, for a stall far below M; there W loses its digits.
        """
        if self.stall < ROUNDING * self.mtbf:
            return max(math.sqrt(2 * self.stall) * math.sqrt(self.mtbf), self.written)
        best = self.mtbf * (1 + float(lambertw(-math.exp(-1 - self.stall / self.mtbf)).real))
        return max(best, self.written)

    def lost(self, interval: float) -> float:
        """Share of the time that is not training which stays (Daly, equation 20).

        A failure loses what was trained since the last whole checkpoint: with one that is written while training goes
        on, ``written`` more than since its copy; to first order that is a longer restart. All of it is lost where
        failures come so fast that exp is more than a number can hold.

        Args:
            interval: seconds of training between two checkpoints.
        """
        if math.isinf(self.mtbf):
            return self.stall / (interval + self.stall)
        try:
            again = math.expm1((interval + self.stall) / self.mtbf)
            return 1 - interval / (self.mtbf * again * math.exp((self.restart + self.written) / self.mtbf))
        except OverflowError:
            return 1.0
