"""Saving beside training: the loop stands still while what its rank holds is copied to the host, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from litebert.train.checkpoint import Retention, publish
from litebert.train.pieces import Pieces, assemble
from litebert.train.world import Channel


class Saver:
    """Publishes checkpoints in a thread of its own, one at a time; every rank has one and calls it alike."""

    def __init__(
        self,
        run: Path,
        retention: Retention,
        channel: Channel,
        say: Callable[[str], None],
        failed: Callable[[], None],
    ) -> None:
        """Args:
        run: the run folder.
        retention: which checkpoints stay.
        channel: between all ranks, used by nothing else.
        say: gets a line for each checkpoint, in the thread.
        failed: is called in the thread where one could not be saved; ``wait`` then says why.
        """
        self._run = run
        self._retention = retention
        self._channel = channel
        self._say = say
        self._failed = failed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._saving: Future[None] | None = None
        self.longest = 0.0  # seconds that a checkpoint has taken so far, from its order to its publication

    def start(
        self,
        step: int,
        pieces: Pieces,
        info: Mapping[str, Any],
        durable: Sequence[Path],
        begun: float,
    ) -> None:
        """Begins to save, once the checkpoint before is saved; other arguments as of ``publish``.

        Args:
            pieces: what this rank holds, copied: nothing of it changes any more.
            begun: the time.monotonic() since which training stands still for this.

        Raises:
            OSError: the one before could not be saved; the same on every rank.
        """
        self.wait()
        self._saving = self._thread.submit(self._publish, step, pieces, info, durable, begun, time.monotonic())

    def wait(self) -> None:
        """Waits until everything begun is saved. Raises OSError where it could not be, the same on every rank."""
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def _publish(
        self,
        step: int,
        pieces: Pieces,
        info: Mapping[str, Any],
        durable: Sequence[Path],
        begun: float,
        copied: float,
    ) -> None:
        try:
            tensors = assemble(pieces, self._channel)
            checkpoint = publish(self._run, step, tensors, info, self._retention, self._channel, durable)
        except BaseException:
            self._failed()
            raise
        done = time.monotonic()
        self.longest = max(self.longest, done - begun)
        size = sum(file["bytes"] for file in checkpoint.info["files"].values())
        self._say(
            f"checkpoint {checkpoint.folder.name}: {size / 1e6:,.1f} MB in {done - begun:.2f} s, "
            f"for {copied - begun:.3f} s of which training stood still"
        )
