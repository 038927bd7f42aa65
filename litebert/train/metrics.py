"""What a run shows of itself: metrics.jsonl, TensorBoard, and a line on the terminal.

Values are summed on the device, in fp64, and come to the host only when a line is written; each line is the
mean over all steps since the one before. A checkpoint carries the sums begun since the last line, so that the
line after a resume is the one that an uninterrupted run would have written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from litebert.train.run import write
from litebert.train.world import World

FILE = "metrics.jsonl"
BAD = "bad_steps"  # steps whose loss or gradient was not finite, so that they changed nothing
SHOWN = {
    "loss": ".4f",
    "mlm": ".4f",
    "sop": ".4f",
    "nsp": ".4f",
    "mlm_accuracy": ".3f",
    "sop_accuracy": ".3f",
    "nsp_accuracy": ".3f",
    "ce": ".4f",
    "cos": ".4f",
    "agreement": ".3f",
    "grad_norm": ".2f",
    "heldout_mlm": ".4f",
    "heldout_sop_accuracy": ".3f",
    "heldout_nsp_accuracy": ".3f",
    "heldout_kl": ".4f",
    "heldout_topk_kl": ".4f",
    "heldout_sampled_kl": ".4f",
    "heldout_agreement": ".3f",
    BAD: "d",
}
MACHINE = {
    "tokens_per_s",
    "mfu",
    "loader_wait",
    "memory_gb",
    "checkpoint_s",
    "evaluation_s",
    "soft_mb_per_s",
    "soft_wait",
    "teacher_busy",
}


def tag_of(name: str) -> str:
    """Where a value is found in TensorBoard, which shows what has the first part in common together, and at first only
    the two groups that the alphabet puts first."""
    if name.startswith("heldout_"):
        return name.replace("_", "/", 1)
    return f"{'machine' if name in MACHINE else 'learning'}/{name}"


class Metrics:
    """The sums since the last line, and on rank 0 the files they go to."""

    def __init__(self, run: Path, world: World, start: int, steps: int, begun: Mapping[str, Any] | None) -> None:
        """Cuts the files of the run back to the step that it resumes from.

        Args:
            run: the run folder.
            world: every rank has its own ``Metrics`` and calls ``add``, ``log`` and ``begun`` alike.
            start: optimizer steps already done.
            steps: optimizer steps of the whole run.
            begun: what ``begun`` returned for the checkpoint, or None.
        """
        self._world = world
        begun = begun or {"steps": 0, "sums": {}}
        self._names: list[str] = list(begun["sums"])
        self._counted: int = begun["steps"]
        sums = [value if world.leads else 0.0 for value in begun["sums"].values()]
        self._sums = torch.tensor(sums, dtype=torch.float64, device=world.device)
        self._lines = _Lines(run, start, steps) if world.leads else None

    def add(self, shares: Mapping[str, Tensor], taken: Tensor) -> None:
        """Counts one optimizer step.

        Args:
            shares: 0-d tensors on the device, this rank's shares: over all ranks they sum to the step's
                values.
            taken: 0-d, bool, on the device: False for a step whose values were not finite and changed nothing. It is
                counted as such, and its values are not.
        """
        vector = torch.stack([share.double() for share in shares.values()])
        vector = torch.cat([vector.where(taken, 0.0), (~taken).double()[None] / self._world.size])
        if (names := [*shares, BAD]) != self._names:  # nothing yet, or a version that showed others began the line
            begun = dict(zip(self._names, self._sums, strict=True))
            self._names, self._sums = names, torch.stack([begun.get(name, vector.new_zeros(())) for name in names])
        self._sums += vector
        self._counted += 1

    def begun(self) -> dict[str, Any]:
        """The sums since the last line, for a checkpoint. Collective."""
        sums = self._sums.clone()
        dist.all_reduce(sums)
        return {"steps": self._counted, "sums": dict(zip(self._names, sums.tolist(), strict=True))}

    def log(self, step: int, lr: float, more: Mapping[str, float | Tensor]) -> dict[str, float]:
        """Writes a line for the steps since the last one. Collective; waits for the device.

        Args:
            step: optimizer steps done.
            lr: the learning rate of the last of them.
            more: what else is to be seen, tokens_per_s at the least: numbers, and 1-d tensors, of which the line has
                minimum, median and maximum, and TensorBoard a histogram.

        Returns:
            the means of the values over those of the steps that were taken; empty if none was.
        """
        begun = self.begun()
        bad = round(begun["sums"].pop(BAD, 0))
        taken = begun["steps"] - bad
        means = {name: total / taken for name, total in begun["sums"].items()} if taken else {}
        if self._lines:
            line = {"step": step, **means, "lr": lr}
            for name, value in more.items():
                line |= self._lines.spread(step, name, value) if isinstance(value, Tensor) else {name: value}
            self._lines.write(line | ({BAD: bad} if bad else {}))
        self._sums.zero_()
        self._counted = 0
        return means

    def page(self, step: int, name: str, text: str) -> None:
        """Puts a text in Markdown into TensorBoard."""
        if self._lines:
            self._lines.page(step, name, text)

    def tick(self) -> None:
        """Moves the progress bar by a step."""
        if self._lines:
            self._lines.bar.update()

    def say(self, text: str) -> None:
        """Prints a line on rank 0, clear of the progress bar."""
        if self._lines:
            self._lines.say(text)

    def close(self) -> None:
        """Makes everything written durable."""
        if self._lines:
            self._lines.close()


class _Lines:
    """The files and the terminal of rank 0."""

    def __init__(self, run: Path, start: int, steps: int) -> None:
        path = run / FILE
        write(path, "".join(_lines_up_to(path, start)) if path.exists() else "")
        self._file = path.open("a", buffering=1)
        self._tensorboard = SummaryWriter(str(run / "tensorboard"), purge_step=start + 1)
        self._steps = steps
        self.bar = tqdm(total=steps, initial=start, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def write(self, line: dict[str, float]) -> None:
        self._file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "step":
                self._tensorboard.add_scalar(tag_of(name), value, line["step"])
        self._tensorboard.flush()
        shown = [f"{name} {line[name]:{form}}" for name, form in SHOWN.items() if name in line]
        self.say(
            f"step {line['step']}/{self._steps}  {'  '.join(shown)}  lr {line['lr']:.3g}"
            f"  {line['tokens_per_s']:,.0f} tokens/s"
        )

    def spread(self, step: int, name: str, values: Tensor) -> dict[str, float]:
        self._tensorboard.add_histogram(name, values.cpu(), step)
        return {f"{name}_{of}": float(getattr(values, of)()) for of in ("min", "median", "max")}

    def page(self, step: int, name: str, text: str) -> None:
        self._tensorboard.add_text(name, text, step)

    def say(self, text: str) -> None:
        self.bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self.bar.close()
        self._tensorboard.close()
        self._file.close()


def lines_of(run: Path) -> list[dict[str, Any]]:
    """The lines that a run has written so far, without the last one where it is half written.

    Raises ValueError where there is something else in the file.
    """
    path = run / FILE
    try:
        content = path.read_text() if path.is_file() else ""
        lines = [json.loads(line) for line in content[: content.rfind("\n") + 1].splitlines()]
        sound = all("step" in line and all(isinstance(value, int | float) for value in line.values()) for line in lines)
    except (ValueError, AttributeError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path}: not the metrics of a run: put them back, or remove the file")
    return lines


def _lines_up_to(path: Path, step: int) -> list[str]:
    """The lines of a metrics.jsonl that belong to the first steps; a kill may have torn the last one."""
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in whole if json.loads(line)["step"] <= step]
