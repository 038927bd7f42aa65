"""Files of figures: JSON that is known by its fields, read strictly, each figure put beside its run."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from litebert.evaluate.heldout import Heldout
from litebert.report.fields import SHARE, Damage, Fields, Interval, Quartiles
from litebert.report.results import Measured, Product, Score, Speed, TaskScores
from litebert.report.runs import Run, short
from litebert.train.checkpoint import folder_of

DIGITS = 6  # of a fingerprint, by which tasks of one name are told apart
ROUNDING = 1e-4  # that a divergence may be below 0, a mean beside that of its scores
BELOW = (-ROUNDING, math.inf)
POSITIVE = (0.0, math.inf)


def measured(files: Sequence[Path], runs: Sequence[Run]) -> dict[str, Measured]:
    """What files say of runs, by the runs' names.

    Raises ValueError where a file is of no known kind, damaged, of none of the runs or of other weights than a run has
    now, or says again what another said.
    """
    found = {run.name: Measured() for run in runs}
    for place, path in enumerate(files):
        try:
            if path.resolve() in [other.resolve() for other in files[:place]]:
                raise ValueError("is given twice: give each file once")
            content = Fields.of(path)
            kind = next((kind for kind, (fields, _) in KINDS.items() if fields <= content.content.keys()), None)
            if kind is None:
                wanted = "; ".join(f"{kind} have {', '.join(sorted(fields))}" for kind, (fields, _) in KINDS.items())
                raise ValueError(f"no figures that are known by their fields: {wanted}")
            KINDS[kind][1](content, runs, found, path)
        except Damage as error:
            raise ValueError(f"{path}: looks like {kind}, and is damaged: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        except RecursionError:
            raise ValueError(f"{path}: cannot be read as JSON (it is nested too deep)") from None
    return _told_apart(found)


def _heldout(content: Fields, runs: Sequence[Run], found: Mapping[str, Measured], path: Path) -> None:
    """Of launcher/evaluate.py MODEL --data."""
    run = _owner(content, "run", runs)
    if run is None:
        raise ValueError(
            f"is of {content.text('run')}, none of the runs nor the newest checkpoint of one: leave it out"
        )
    own = found[run.name]
    if own.heldout:
        raise ValueError(f"{run.name} has held-out figures from another file already: give one")
    own.heldout = Heldout(
        mlm_loss=content.number("mlm_loss", POSITIVE),
        mlm_accuracy=content.number("mlm_accuracy", SHARE),
        unigram_loss=content.number("unigram_loss", POSITIVE),
        unigram_loss_masked=content.number("unigram_loss_masked", POSITIVE),
        sop_accuracy=_optional(content, "sop_accuracy", SHARE),
        sop_interval=_around(content, "sop_interval", "sop_accuracy"),
        nsp_accuracy=_optional(content, "nsp_accuracy", SHARE),
        nsp_interval=_around(content, "nsp_interval", "nsp_accuracy"),
        kl=_optional(content, "kl", BELOW),
        agreement=_optional(content, "agreement", SHARE),
        samples=content.count("samples"),
        masked_tokens=content.count("masked_tokens"),
        pairs=content.count("pairs"),
        parameters=content.count("parameters"),
    )
    own.step = content.count("step")
    if own.heldout.parameters != run.parameters:
        raise ValueError(f"has {own.heldout.parameters:,} parameters, and {run.name} {run.parameters:,}: another model")


def _tasks(content: Fields, runs: Sequence[Run], found: Mapping[str, Measured], path: Path) -> None:
    """Of launcher/evaluate.py MODEL --task. A task that is there twice, as two folders may be one, is taken once."""
    run = _owner(content, "model", runs)
    if run is None:
        raise ValueError(
            f"is of {content.text('model')}, none of the runs nor the newest checkpoint or an export of one: "
            "leave it out"
        )
    own: dict[str, TaskScores] = {}
    for task in content.objects("tasks"):
        scores = _task(task, content.inner("settings").content)
        first = own.setdefault(scores.fingerprint, scores)
        if dataclasses.replace(scores, task=first.task, folder=first.folder) != first:
            raise ValueError(f"has two scores on {first.task}, which are not the same: leave one out")
    known = {scores.fingerprint for scores in found[run.name].tasks}
    if again := [scores.task for scores in own.values() if scores.fingerprint in known]:
        raise ValueError(f"{run.name} has a score on {again[0]} from another file already: give one")
    found[run.name].tasks += own.values()


def _task(task: Fields, settings: Mapping[str, Any]) -> TaskScores:
    metric = task.text("metric")
    arms = {
        name: _score(task.at(arm, "test", metric)) if arm in task else None
        for name, arm in (("floor", "floor"), ("shuffled", "shuffled"), ("taught", "distilled"))
    }
    model = _score(task.at("model", "test", metric))
    return TaskScores(
        task=task.text("task"),
        folder=task.text("task"),
        fingerprint=task.text("fingerprint"),
        metric=metric,
        seeds=len(model.scores),
        trained=task.inner("sizes").count("train"),
        tested=task.inner("sizes").count("test"),
        model=model,
        above=_difference(task.inner("above_floor")) if "above_floor" in task else None,
        gained=_difference(task.inner("above_model")) if "above_model" in task else None,
        settings=settings,
        **arms,
    )


def _told_apart(found: Mapping[str, Measured]) -> dict[str, Measured]:
    """With tasks that are the same by one name, and with different ones by different names."""
    every = [scores for its in found.values() for scores in its.tasks]
    folders = {scores.fingerprint: scores.folder for scores in reversed(every)}
    often = Counter(folders.values())
    names = {
        fingerprint: f"{folder} {fingerprint[:DIGITS]}" if often[folder] > 1 else folder
        for fingerprint, folder in folders.items()
    }
    for its in found.values():
        its.tasks = [dataclasses.replace(scores, task=names[scores.fingerprint]) for scores in its.tasks]
    return dict(found)


def _product(content: Fields, runs: Sequence[Run], found: Mapping[str, Measured], path: Path) -> None:
    """Of a folder of launcher/finetune.py, or of what launcher/export.py makes of it."""
    begun = content.text("model_fingerprint")
    run = next((run for run in runs if run.fingerprint == begun), None)
    if run is None:
        raise ValueError(f"is of {content.text('model')}, begun as none of the runs is now: leave it out")
    metric = content.text("metric")
    export = content.inner("export") if "export" in content else None
    test = export.inner("test") if export and not export.null("test") else None
    product = Product(
        task=content.text("task"),
        metric=metric,
        taught=not content.null("teaching"),
        form=export.text("form") if export else "as it was fine-tuned",
        whole=test.number("model", SHARE) if test else content.at("scores", "test").number(metric, SHARE),
        kept=_optional(test, "file", SHARE) if test else None,
    )
    if product in found[run.name].products:
        raise ValueError(f"{run.name} has this fine-tuned model of {product.task} from another file already: give one")
    found[run.name].products.append(product)


def _speeds(content: Fields, runs: Sequence[Run], found: Mapping[str, Measured], path: Path) -> None:
    """Of benchmarks/inference.py. What is of other models beside the runs, as a peer may be, is passed over."""
    where = _circumstances(content)
    models = [content.at("models", name) for name in content.inner("models").content]
    owners = [(model, run) for model in models if (run := _owner(model, "path", runs))]
    if not owners:
        others = ", ".join(model.text("path") for model in models)
        raise ValueError(f"is of {others}, none of the runs nor the newest checkpoint of one: leave it out")
    for model, run in owners:
        if found[run.name].speeds:
            raise ValueError(f"{run.name} has speeds from another file already: give one")
        if (parameters := model.count("parameters")) != run.encoder:
            raise ValueError(
                f"has {parameters:,} parameters in the encoder of {run.name}, and that has {run.encoder:,}: "
                "another model"
            )
        per_s = model.inner("samples_per_s")
        for form in model.inner("latency_ms").content:
            kind = form.rpartition(", ")[0]
            speed = Speed(
                form=form,
                megabytes=_optional(model.inner("megabytes"), kind, POSITIVE),
                memory=_optional(model.inner("peak_megabytes"), kind, POSITIVE),
                milliseconds=_by_length(model.at("latency_ms", form)),
                samples_per_s=_by_length(per_s.inner(form)) if form in per_s else {},
                where=where,
                file=path,
            )
            found[run.name].speeds.append(speed)


def _circumstances(content: Fields) -> str:
    """Of speeds, in words; files of before do not have all of them."""
    found = [content.text("processor"), *(f"{name} {content.text(name)}" for name in LIBRARIES if name in content)]
    found += [f"samples/s in batches of {content.count('batch', 1):,}"] if "batch" in content else []
    found += [f"commit {short(content.text('commit'))}"] if "commit" in content and content.text("commit") else []
    return ", ".join(found)


LIBRARIES = ("torch", "transformers", "onnxruntime")
KINDS: dict[str, tuple[set[str], Callable[[Fields, Sequence[Run], Mapping[str, Measured], Path], None]]] = {
    "held-out figures": ({"run", "step", "mlm_loss"}, _heldout),
    "scores on tasks": ({"model", "fingerprint", "tasks"}, _tasks),
    "fine-tuned models": ({"model_fingerprint", "all_seeds", "teaching"}, _product),
    "speeds": ({"models", "processor"}, _speeds),
}


def _owner(content: Fields, name: str, runs: Sequence[Run]) -> Run | None:
    """The run whose weights figures are of, by their fingerprint; by where it lies if they have none.

    Args:
        name: of the field that says where it lay.

    Raises ValueError where it is only that place that fits.
    """
    location = content.text(name)
    named = _named(location, runs)
    if "fingerprint" not in content or content.null("fingerprint"):
        return named
    fingerprint = content.text("fingerprint")
    likely = sorted(runs, key=lambda run: run is not named)
    found = next((run for run in likely if run.fingerprint == fingerprint), None)
    if named and not found:
        raise ValueError(
            f"is of {location} with other weights than {named.name} has now: measure that again, or leave it out"
        )
    return found


def _named(location: str, runs: Sequence[Run]) -> Run | None:
    """The run that lies there, or whose newest checkpoint does."""
    place = Path(location).resolve()
    for run in runs:
        newest = [folder_of(run.path, run.checkpoint["step"]).resolve()] if run.checkpoint else []
        if place in (run.path.resolve(), *newest):
            return run
    return None


def _score(found: Fields) -> Score:
    """Of seeds, their mean and its interval."""
    scores, mean = found.numbers("scores", bounds=SHARE), found.number("mean", SHARE)
    if abs(mean - fmean(scores)) > ROUNDING:
        raise Damage(f"{found.place}.mean is {mean:g}, and the mean of its scores {fmean(scores):g}")
    return Score(mean, _around(found, "interval", "mean"), scores)


def _difference(found: Fields) -> Score:
    """Of two scores."""
    return Score(found.number("mean", (-1.0, 1.0)), _around(found, "interval", "mean"))


def _around(found: Fields, name: str, center: str) -> Interval | None:
    """The interval of a field's value; None where it is null."""
    return None if found.null(name) else found.interval(name, found.number(center))


def _optional(found: Fields, name: str, bounds: Interval) -> float | None:
    """None where it is null or left out."""
    return None if found.null(name) or name not in found else found.number(name, bounds)


def _by_length(found: Fields) -> dict[int, Quartiles]:
    """Quartiles by length in tokens."""
    if odd := [length for length in found.content if not (length.isdecimal() and length.isascii())]:
        raise Damage(f"{found.place}: {odd[0]!r:.40} is no length")
    return {length: found.quartiles(str(length)) for length in sorted(map(int, found.content))}
