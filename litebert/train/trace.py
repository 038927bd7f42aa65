"""A trace of a few steps, for chrome://tracing or Perfetto, and what of their time went where."""

from __future__ import annotations

from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from litebert.train.world import World

SKIPPED = 3  # steps of a session that go first: what is made once is made in them
ROWS = 30


class Trace:
    """Records steps 4, 5, ... of a session; does nothing where none are asked for."""

    def __init__(self, folder: Path, world: World, steps: int) -> None:
        """Args:
        folder: gets rank-R.json, the trace, and rank-R.txt, kernels and collectives by the time that they took.
        steps: how many to record; 0 for none.
        """
        self._folder, self._world, self._left = folder, world, steps
        self._wait = SKIPPED
        self._profile: profile | None = None

    def step(self) -> None:
        """Marks the end of a step."""
        if not self._left:
            return
        if self._wait:
            self._wait -= 1
            if not self._wait:
                on_gpu = self._world.device.type == "cuda"
                kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
                self._profile = profile(activities=kinds)
                self._profile.start()
            return
        self._left -= 1
        if not self._left:
            self.close()

    def close(self) -> None:
        """Writes what was recorded."""
        if self._profile is None:
            return
        self._profile.stop()
        self._folder.mkdir(exist_ok=True)
        name = f"rank-{self._world.rank}"
        self._profile.export_chrome_trace(str(self._folder / f"{name}.json"))
        by = f"self_{'cuda' if self._world.device.type == 'cuda' else 'cpu'}_time_total"
        table = self._profile.key_averages().table(sort_by=by, row_limit=ROWS)
        (self._folder / f"{name}.txt").write_text(table + "\n")
        self._profile, self._left = None, 0
