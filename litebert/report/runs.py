"""What a run folder says of its run; no weights are read but for their fingerprint."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from data_tools.text.huggingface import load_tokenizer
from litebert.distill.teacher import fingerprint
from litebert.model.encoder import ModelConfig
from litebert.plan.work import parameters
from litebert.recipe import Recipe
from litebert.report.fields import Fields
from litebert.train.checkpoint import published, read
from litebert.train.commit import CHANGED
from litebert.train.metrics import BAD, lines_of
from litebert.train.run import ruled_out
from litebert.train.trained import load_trained

SHORT = 12  # hexadecimal digits that a commit or a fingerprint is known by


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as its folder has it.

    Attributes:
        path: of the folder.
        name: by which a page knows it.
        recipe: as the last session had it.
        shape: of the model.
        vocabulary: what its pieces are, in words.
        fingerprints: of what it reads, by name.
        versions: of the libraries that it began with.
        data: where its shards were: paths or URLs.
        devices: that it began on, in words; empty where the run did not write them down.
        commit: of the code that it began with; empty where that was not known.
        lines: of metrics, oldest first.
        checkpoint: checkpoint.json of the newest checkpoint; None before the first.
        done: whether it is at its end.
        sessions: seconds of each time that it trained, from its first sign to its last, repeated steps included.
        left_out: steps that roll-backs left out.
    """

    path: Path
    name: str
    recipe: Recipe
    shape: ModelConfig
    vocabulary: str
    fingerprints: Mapping[str, str]
    versions: Mapping[str, str]
    data: Sequence[str]
    devices: str
    commit: str
    lines: Sequence[Mapping[str, float]]
    checkpoint: Mapping[str, Any] | None
    done: bool
    sessions: Sequence[float]
    left_out: int

    @classmethod
    def read(cls, path: Path, name: str) -> Run:
        """The run of a folder. Raises ValueError where there is none, or what it wrote is damaged."""
        for file in ("run.json", "recipe.yaml"):
            if not (path / file).is_file():
                raise ValueError(f"{path}: not the folder of a run (no {file}): give the folder given as --run")
        try:
            record = Fields.of(path / "run.json")
            fingerprints, versions, data = record.texts("fingerprints"), record.texts("versions"), record.listed("data")
            for needed in ("data", "tokenizer"):
                record.inner("fingerprints").text(needed)
            devices, commit = (record.text(name) if name in record else "" for name in ("devices", "commit"))
            content = yaml.safe_load((path / "recipe.yaml").read_text())
        except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
            what = " ".join(str(error).split())
            raise ValueError(f"{path}: run.json or recipe.yaml is not what a run wrote ({what})") from None
        recipe, tokenizer, kept = Recipe.from_dict(content), load_tokenizer(path / "tokenizer"), published(path)
        return cls(
            path=path,
            name=name,
            recipe=recipe,
            shape=recipe.model_config(tokenizer.vocab_size),
            vocabulary=f"{tokenizer.vocab_size:,} pieces, {tokenizer.KIND}",
            fingerprints=fingerprints,
            versions=versions,
            data=data,
            devices=devices,
            commit=commit,
            lines=lines_of(path),
            checkpoint=read(kept[-1]).info if kept else None,
            done=(path / "done.json").is_file(),
            sessions=[_seconds(file) for file in sorted((path / "tensorboard").glob("events.*"))],
            left_out=len(ruled_out(path)),
        )

    @cached_property
    def parameters(self) -> int:
        """That are trained."""
        return sum(parameters(self.shape).values())

    @cached_property
    def encoder(self) -> int:
        """Parameters without those of heads."""
        return sum(count for part, count in parameters(self.shape).items() if "head" not in part)

    @cached_property
    def fingerprint(self) -> str | None:
        """SHA-256 of weights, shape and tokenizer as launcher/evaluate.py has it, in hex; None before a checkpoint.

        The weights are exported for as long as that takes.
        """
        if not self.checkpoint:
            return None
        # transformers takes seconds to import
        from transformers.utils import logging

        from litebert.finetune.candidate import Candidate

        logging.disable_progress_bar()
        with Candidate.opened(self.path) as candidate:
            return candidate.fingerprint

    @cached_property
    def weights(self) -> str | None:
        """Fingerprint by which a student knows its teacher, in hex; None before a checkpoint. The weights are read."""
        return fingerprint(load_trained(self.path).model) if self.checkpoint else None

    @property
    def step(self) -> int:
        """The last that is known of."""
        logged = self.lines[-1]["step"] if self.lines else 0
        return int(max(logged, self.checkpoint["step"] if self.checkpoint else 0))

    @property
    def ranks(self) -> int | None:
        """Processes that wrote the newest checkpoint; None before the first."""
        return len(self.checkpoint["files"]) if self.checkpoint else None

    @property
    def bad_steps(self) -> int:
        """Steps that were not finite and changed nothing."""
        return int(sum(line.get(BAD, 0) for line in self.lines))

    @property
    def heldout(self) -> Mapping[str, float]:
        """The last line with figures on held-out documents; empty where there is none."""
        return next((line for line in reversed(self.lines) if "heldout_mlm" in line), {})

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a metric, float64, of the lines in which it is a finite number."""
        found = [(line["step"], line[name]) for line in self.lines if math.isfinite(line.get(name, math.nan))]
        steps, values = np.array(found, np.float64).reshape(-1, 2).T
        return steps, values


def runs_of(paths: Sequence[Path]) -> list[Run]:
    """Runs, each named by its path from the deepest folder that has them all.

    Raises ValueError where one is given twice, and as ``Run.read``.
    """
    real = [path.resolve() for path in paths]
    if again := {str(path) for path in real if real.count(path) > 1}:
        raise ValueError(f"{min(again)} is given twice: give each run once")
    common = os.path.commonpath([path.parent for path in real])
    return [Run.read(path, os.path.relpath(own, common)) for path, own in zip(paths, real, strict=True)]


def short(commit: str) -> str:
    """A commit, as far as anybody reads it, and whether files were changed since."""
    return commit[:SHORT] + CHANGED * commit.endswith(CHANGED)


def alike(runs: Sequence[Run]) -> bool:
    """Whether those that measured themselves while training did it on the same held-out samples."""
    own = [run for run in runs if run.heldout]
    asked = {(run.fingerprints["data"], run.recipe.data.seed, run.recipe.train.evaluate_samples) for run in own}
    return len(asked) < 2


def _seconds(file: Path) -> float:
    """From the first event of a file for TensorBoard to its last; a kill may have torn that."""
    first = last = b""
    for event in RawEventFileLoader(str(file)).Load():
        first, last = first or event, event
    return float(Event.FromString(last).wall_time - Event.FromString(first).wall_time)
