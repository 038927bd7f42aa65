"""What a build knows of whoever does its work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from data_tools.work import Stage, Work

Steps = Sequence[Sequence[Stage]]


class Executor(Protocol):
    """Does the items of stages, each once."""

    def run(self, work: Work, steps: Steps) -> None:
        """Finish every item of every stage.

        Args:
            work: the work folder. What is finished in it is not done again.
            steps: one after the other; the stages of one step go along with one another, where that is possible.

        Raises ValueError where an item's data are wrong, or who does the work died.
        """
