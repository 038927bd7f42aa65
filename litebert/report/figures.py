"""What was measured of runs by others: files of JSON, known by their fields, each figure put beside its run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from litebert.evaluate.heldout import Heldout
from litebert.report.runs import Run
from litebert.train.checkpoint import folder_of

T = TypeVar("T")
Interval = tuple[float, float]
Quartiles = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Score:
    """A mean over seeds, or a difference of two; a share of 1.

    Attributes:
        mean: of it.
        interval: 95 %; None of one seed.
        scores: of the seeds; empty of a difference.
    """

    mean: float
    interval: Interval | None
    scores: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """What a run comes to on a task, on its test set.

    Attributes:
        task, metric: their names.
        seeds: fine-tunings that a score is the mean of.
        trained, tested: examples.
        model: the run's score.
        floor: of random weights of its shape; above: the difference of the two; shuffled: with labels of others.
        taught: learning from a fine-tuned teacher too; gained: how far that is above ``model``.
        settings: of fine-tuning, in words.
    """

    task: str
    metric: str
    seeds: int
    trained: int
    tested: int
    model: Score
    floor: Score | None
    above: Score | None
    shuffled: Score | None
    taught: Score | None
    gained: Score | None
    settings: str


@dataclasses.dataclass(frozen=True)
class Product:
    """A fine-tuned model that was kept, or what was exported of it.

    Attributes:
        task, metric: their names.
        taught: whether it learnt from a fine-tuned teacher too.
        form: that it is kept in.
        whole: its score on test in fp32, a share of 1; kept: that of the exported file; None where it was not measured.
    """

    task: str
    metric: str
    taught: bool
    form: str
    whole: float
    kept: float | None


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a run's encoder is in a form that it is exported in, and what it takes. Quartiles are by length.

    Attributes:
        form: of the encoder, and its threads.
        megabytes: of its file; memory: at most, of a process that has run it; None where it is not said.
        milliseconds: of a call with one sample.
        samples_per_s: of calls with many.
        where: processor and versions, in words.
    """

    form: str
    megabytes: float | None
    memory: float | None
    milliseconds: Mapping[int, Quartiles]
    samples_per_s: Mapping[int, Quartiles]
    where: str

    @property
    def kind(self) -> str:
        """Its form without its threads."""
        return self.form.rpartition(", ")[0]

    @property
    def threads(self) -> str:
        """How many, in words."""
        return self.form.rpartition(", ")[2]


@dataclasses.dataclass
class Measured:
    """What is known of a run beside its folder.

    Attributes:
        heldout: on held-out documents, after so many steps.
        step: of ``heldout``.
        tasks: on tasks.
        speeds: of its exports.
        products: what was fine-tuned of it and kept.
    """

    heldout: Heldout | None = None
    step: int = 0
    tasks: list[TaskScores] = dataclasses.field(default_factory=list)
    speeds: list[Speed] = dataclasses.field(default_factory=list)
    products: list[Product] = dataclasses.field(default_factory=list)


def measured(files: Sequence[Path], runs: Sequence[Run]) -> dict[str, Measured]:
    """What files say of runs, by the runs' names.

    Raises ValueError where a file is of no known kind, damaged, of none of the runs, or says again what another said.
    """
    found = {run.name: Measured() for run in runs}
    for path in files:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path}: no figures: an object is wanted, as launcher/evaluate.py --output writes it")
        kind = next((kind for kind, (fields, _) in KINDS.items() if fields <= content.keys()), None)
        if kind is None:
            wanted = "; ".join(f"{kind} have {', '.join(sorted(fields))}" for kind, (fields, _) in KINDS.items())
            raise ValueError(f"{path}: no figures that are known by their fields: {wanted}")
        try:
            KINDS[kind][1](content, runs, found)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: looks like {kind}, and is damaged ({error!r})") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


def comparable(runs: Sequence[Run], measured: Mapping[str, Measured]) -> bool:
    """Whether all held-out figures are of the same words under the same tokenizer."""
    tokenizers = {run.fingerprints["tokenizer"] for run in runs if measured[run.name].heldout}
    asked = {(its.masked_tokens, its.unigram_loss_masked) for each in measured.values() if (its := each.heldout)}
    return len(tokenizers) < 2 and len(asked) < 2


def _heldout(content: Mapping[str, Any], runs: Sequence[Run], found: Mapping[str, Measured]) -> None:
    """Of launcher/evaluate.py MODEL --data."""
    run = _named(content["run"], runs)
    if run is None:
        raise ValueError(f"is of {content['run']}, none of the runs nor the newest checkpoint of one: leave it out")
    own = found[run.name]
    if own.heldout:
        raise ValueError(f"{run.name} has held-out figures from another file already: give one")
    values = {field.name: _value(str(field.type), content[field.name]) for field in dataclasses.fields(Heldout)}
    own.heldout = Heldout(**values)
    own.step = int(_number(content["step"]))
    if own.heldout.parameters != run.parameters:
        raise ValueError(f"has {own.heldout.parameters:,} parameters, and {run.name} {run.parameters:,}: another model")


def _tasks(content: Mapping[str, Any], runs: Sequence[Run], found: Mapping[str, Measured]) -> None:
    """Of launcher/evaluate.py MODEL --task."""
    run = _named(content["model"], runs) or _same_weights(content["fingerprint"], runs)
    if run is None:
        raise ValueError(
            f"is of {content['model']}, none of the runs nor the newest checkpoint or an export of one: leave it out"
        )
    settings = ", ".join(f"{name} {value}" for name, value in content["settings"].items() if name != "learning_rates")
    for task in content["tasks"]:
        scores = _task(task, settings)
        if scores.task in {other.task for other in found[run.name].tasks}:
            raise ValueError(f"{run.name} has a score on {scores.task} from another file already: give one")
        found[run.name].tasks.append(scores)


def _task(task: Mapping[str, Any], settings: str) -> TaskScores:
    metric = task["metric"]
    arms = {
        name: _score(task[arm]["test"][metric]) if arm in task else None
        for name, arm in (("floor", "floor"), ("shuffled", "shuffled"), ("taught", "distilled"))
    }
    return TaskScores(
        task=str(task["task"]),
        metric=str(metric),
        seeds=len(task["model"]["test"][metric]["scores"]),
        trained=int(_number(task["sizes"]["train"])),
        tested=int(_number(task["sizes"]["test"])),
        model=_score(task["model"]["test"][metric]),
        above=_score(task["above_floor"]) if "above_floor" in task else None,
        gained=_score(task["above_model"]) if "above_model" in task else None,
        settings=settings,
        **arms,
    )


def _product(content: Mapping[str, Any], runs: Sequence[Run], found: Mapping[str, Measured]) -> None:
    """Of a folder of launcher/finetune.py, or of what launcher/export.py makes of it."""
    run = _same_weights(content["model_fingerprint"], runs)
    if run is None:
        raise ValueError(f"is of {content['model']}, begun as none of the runs is now: leave it out")
    metric, export = content["metric"], content.get("export") or {"form": "as it was fine-tuned", "test": None}
    test = export["test"] or {"model": content["scores"]["test"][metric], "file": None}
    product = Product(
        task=str(content["task"]),
        metric=str(metric),
        taught=content["teaching"] is not None,
        form=str(export["form"]),
        whole=_number(test["model"]),
        kept=_optional(_number, test["file"]),
    )
    found[run.name].products.append(product)


def _speeds(content: Mapping[str, Any], runs: Sequence[Run], found: Mapping[str, Measured]) -> None:
    """Of benchmarks/inference.py. What is of other models beside the runs, as a peer may be, is passed over."""
    libraries = ", ".join(f"{name} {content[name]}" for name in LIBRARIES if name in content)
    owners = [(model, run) for model in content["models"].values() if (run := _named(model["path"], runs))]
    if not owners:
        others = ", ".join(str(model["path"]) for model in content["models"].values())
        raise ValueError(f"is of {others}, none of the runs nor the newest checkpoint of one: leave it out")
    for model, run in owners:
        if found[run.name].speeds:
            raise ValueError(f"{run.name} has speeds from another file already: give one")
        for form, milliseconds in model["latency_ms"].items():
            kind = form.rpartition(", ")[0]
            speed = Speed(
                form=form,
                megabytes=_optional(_number, model["megabytes"].get(kind)),
                memory=_optional(_number, model["peak_megabytes"].get(kind)),
                milliseconds=_by_length(milliseconds),
                samples_per_s=_by_length(model["samples_per_s"].get(form, {})),
                where=f"{content['processor']}, {libraries}",
            )
            found[run.name].speeds.append(speed)


LIBRARIES = ("torch", "transformers", "onnxruntime")
KINDS: dict[str, tuple[set[str], Callable[[Mapping[str, Any], Sequence[Run], Mapping[str, Measured]], None]]] = {
    "held-out figures": ({"run", "step", "mlm_loss"}, _heldout),
    "scores on tasks": ({"model", "fingerprint", "tasks"}, _tasks),
    "fine-tuned models": ({"model_fingerprint", "all_seeds", "teaching"}, _product),
    "speeds": ({"models", "processor"}, _speeds),
}


def _named(location: str, runs: Sequence[Run]) -> Run | None:
    """The run that lies there, or whose newest checkpoint does."""
    place = Path(location).resolve()
    for run in runs:
        newest = [folder_of(run.path, run.checkpoint["step"]).resolve()] if run.checkpoint else []
        if place in (run.path.resolve(), *newest):
            return run
    return None


def _same_weights(fingerprint: str, runs: Sequence[Run]) -> Run | None:
    """The run whose export has a fingerprint; each is exported for as long as that takes."""
    # transformers takes seconds to import
    from transformers.utils import logging

    from litebert.evaluate.candidate import Candidate

    logging.disable_progress_bar()
    for run in runs:
        if run.checkpoint:
            with Candidate.opened(run.path) as candidate:
                if candidate.fingerprint == fingerprint:
                    return run
    return None


def _score(found: Mapping[str, Any]) -> Score:
    seeds = tuple(map(_number, found.get("scores", ())))
    return Score(_number(found["mean"]), _optional(_interval, found["interval"]), seeds)


def _value(kind: str, found: Any) -> Any:
    """A number or an interval, by the type of the field that it is for, which may leave it out."""
    read = _interval if "tuple" in kind else _number
    return _optional(read, found) if "None" in kind else read(found)


def _by_length(found: Mapping[str, Any]) -> dict[int, Quartiles]:
    if odd := [length for length in found if not length.isdecimal()]:
        raise TypeError(f"{odd[0]!r:.40} is no length")
    quartiles = {int(length): _numbers(each, 3) for length, each in found.items()}
    return dict(sorted(quartiles.items()))


def _interval(found: Any) -> Interval:
    return _numbers(found, 2)


def _numbers(found: Any, count: int) -> Any:
    """So many finite numbers, as a tuple."""
    if not isinstance(found, list) or len(found) != count:
        raise TypeError(f"{found!r:.40} are not {count} numbers")
    return tuple(map(_number, found))


def _number(found: Any) -> Any:
    """A finite number, as it is."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise TypeError(f"{found!r:.40} is no number")
    return found


def _optional(read: Callable[[Any], T], found: Any) -> T | None:
    return None if found is None else read(found)
