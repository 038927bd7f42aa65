"""What a report says in sentences: what came out, and what has to be known of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from litebert.report.corpora import Text
from litebert.report.marks import Mark, ranks, tasks_of, written
from litebert.report.results import Measured, comparable
from litebert.report.runs import Run, alike
from litebert.report.trade import PLAIN, Trade


def lead(runs: Sequence[Run], measured: Mapping[str, Measured], trades: Sequence[Trade]) -> str:
    """The result, in a sentence or two."""
    students = [its for its in trades if its.taught]
    told = _kept(students, runs) or _behind(students, runs, measured) or _losses(runs, measured)
    return f"{told} {_floors(runs, measured)}".strip()


def _kept(students: Sequence[Trade], runs: Sequence[Run]) -> str:
    """What the best student keeps of its teacher's score; empty where none has one to hold against it."""
    scored = [(its, its.kept) for its in students if its.kept]
    if not scored:
        return next((_unclear(its) for its in students if not its.above), "")
    best, share = max(scored, key=lambda pair: pair[1].mean)
    around = f" ({100 * share.interval[0]:.0f}–{100 * share.interval[1]:.0f})" if share.interval else ""
    kept = f"{_named(best.run, runs)} keeps {share.mean:.0%}{around} of {best.teacher}'s {_scored(best)}"
    floor = "" if best.lead else " No floor was measured: random weights may keep much of it too."
    small = " The scores are not those of int8." if best.small else ""
    return f"{_among(len(scored))}{kept}, with {_saved(best)}.{small}{floor}"


def _unclear(its: Trade) -> str:
    """Why there is no share of a teacher's score."""
    return (
        f"{its.teacher}'s {_scored(its)} is not clearly above random weights: no share of it is said. "
        f"{its.run} has {_saved(its)}."
    )


def _scored(its: Trade) -> str:
    of = its.metric or "score"
    return f"mean {of} over {len(its.tasks)} tasks" if len(its.tasks) > 1 else f"{of} on {its.tasks[0]}"


def _behind(students: Sequence[Trade], runs: Sequence[Run], measured: Mapping[str, Measured]) -> str:
    """How far the best student's held-out loss is from its teacher's; empty where that cannot be said."""
    losses = {name: its.heldout.mlm_loss for name, its in measured.items() if its.heldout}
    both = [its for its in students if its.run in losses and its.teacher in losses]
    if not both or not comparable(runs, measured):
        return ""
    best = min(both, key=lambda its: losses[its.run])
    behind = losses[best.run] - losses[best.teacher]
    away = f"{abs(behind):.3f} nats a masked word {'behind' if behind > 0 else 'ahead of'} {best.teacher} held out"
    return f"{_among(len(both))}{_named(best.run, runs)} is {away}, with {_saved(best)}."


def _named(name: str, runs: Sequence[Run]) -> str:
    """A run, and that it is not at its end if it is not."""
    (run,) = (run for run in runs if run.name == name)
    return name if run.done else f"{name} (not finished: step {run.step:,} of {run.recipe.train.steps:,})"


def _among(number: int) -> str:
    return f"Of {number} runs beside their teacher, " if number > 1 else ""


def _saved(its: Trade) -> str:
    fast = [f"{its.plain:.1f}x as fast in fp32"] if its.plain else []
    small = [f"{its.small:.1f}x in int8"] if its.small else []
    return _and([f"{its.size:.0%} of its parameters", *fast, *small])


def _losses(runs: Sequence[Run], measured: Mapping[str, Measured]) -> str:
    losses = {run.name: its for run in runs if (its := measured[run.name].heldout)}
    if not losses:
        return _own_losses(runs)
    if len(losses) > 1 and not comparable(runs, measured):
        return f"{_count(len(runs), 'run')} on different text: losses of one are no measure for another."
    name, best = min(losses.items(), key=lambda item: item[1].mlm_loss)
    gain = best.unigram_loss_masked - best.mlm_loss
    named = _named(name, runs)
    words = f"{named} has the lowest held-out loss of {len(losses)} runs" if len(losses) > 1 else f"{named}, held out"
    return (
        f"{words}: {best.mlm_loss:.3f} nats a masked word with {best.parameters / 1e6:,.2f} million parameters, "
        f"{abs(gain):.3f} {'below' if gain > 0 else 'above'} guessing by frequency."
    )


def _own_losses(runs: Sequence[Run]) -> str:
    """Of those that runs measured of themselves, the same held-out samples where seed and number are the same."""
    own = [run for run in runs if run.heldout]
    if not own:
        return f"{_count(len(runs), 'run')}. No figures on held-out documents were given."
    if not alike(own):
        return f"{_count(len(runs), 'run')}, which measured themselves on different held-out samples while training."
    best = min(own, key=lambda run: run.heldout["heldout_mlm"])
    named = _named(best.name, runs)
    words = f"{named} has the lowest held-out loss of {len(own)} runs" if len(own) > 1 else f"{named}, held out"
    return (
        f"{words}, as measured while training: {best.heldout['heldout_mlm']:.3f} nats a masked word with "
        f"{best.parameters / 1e6:,.2f} million parameters."
    )


def of_trades(runs: Sequence[Run], trades: Sequence[Trade], measured: Mapping[str, Measured]) -> list[str]:
    """What runs are held against, and how."""
    if not trades:
        return []
    found = []
    if shared := sorted({", ".join(its.tasks) for its in trades if its.tasks}):
        found.append(
            f"Scores are in per cent, the mean of the test sets of {'; '.join(shared)}, which every run with scores to "
            "compare has. Shares of the teacher's have 95 % intervals of the seeds of fine-tuning alone (delta method, "
            "Welch's t)."
        )
    told = {task for its in trades for task in (*its.tasks, *its.unlike)}
    if left := sorted({scores.task for its in trades for scores in measured[its.run].tasks} - told):
        found.append(f"Not every run beside a teacher has scores on {_and(left)}: no mean here is over that.")
    for its in trades:
        if reasons := [f"{task} ({why})" for task, why in its.unlike.items()]:
            found.append(
                f"{its.run} was not fine-tuned as {its.teacher} was on {_and(reasons)}: no share is said of it."
            )
    if any(its.lead for its in trades):
        found.append("The lead over the floor is the teacher's over random weights of the run's own shape.")
    if unclear := [its for its in trades if not its.above]:
        found.append(
            f"No share is said for {_and([its.run for its in unclear])}: the teacher's score is not clearly above "
            "random weights, of its own shape or of the run's."
        )
    if any(its.plain for its in trades):
        found.append(
            "Times as fast: samples/s at the longest length, of both in fp32; and of the run in ONNX int8 beside the "
            "teacher in fp32."
        )
    teachers = {run.weights: run.name for run in runs if run.name in {its.teacher for its in trades}}
    for run in runs:
        if (teacher := teachers.get(run.weights, run.name)) != run.name:
            found.append(f"{run.name} has the weights of {teacher}, which was given first and is the teacher here.")
    return [*found, *_apart(measured)]


def _apart(measured: Mapping[str, Measured]) -> list[str]:
    """Why speeds of different files are not divided by each other."""
    files = {its.file for each in measured.values() for its in each.speeds}
    why = "Speeds from different files were not timed in turn, perhaps on two machines: none is divided by another's."
    return [why] if len(files) > 1 else []


def _floors(runs: Sequence[Run], measured: Mapping[str, Measured]) -> str:
    scores = [its for run in runs for its in measured[run.name].tasks if its.above and its.above.interval]
    above = [its for its in scores if its.above and its.above.interval and its.above.interval[0] > 0]
    if not scores:
        return ""
    are = "is" if len(scores) == 1 else "are"
    return f"{len(above)} of {_count(len(scores), 'task score')} {are} clearly above random weights of the same shape."


def notes(runs: Sequence[Run], measured: Mapping[str, Measured]) -> list[str]:
    """What has to be known of the figures, and which there are none of."""
    found = _of_heldout(runs, measured)
    if not any(each.tasks for each in measured.values()):
        found.append(
            "No scores on tasks were given: launcher/evaluate.py RUN --task TASK... --floor --output FILE.json"
        )
    if not any(each.speeds for each in measured.values()):
        found.append("No latencies or file sizes were given: benchmarks/inference.py RUN... --output FILE.json")
    for run in runs:
        if not run.done:
            found.append(f"{run.name} is not at its end: step {run.step:,} of {run.recipe.train.steps:,}.")
        if run.bad_steps or run.left_out:
            found.append(
                f"{run.name}: {run.bad_steps:,} steps were not finite and changed nothing, roll-backs left out "
                f"{run.left_out:,}."
            )
    return found


def of_tasks(measured: Mapping[str, Measured]) -> list[str]:
    """How scores on tasks were made."""
    every = [its for each in measured.values() for its in each.tasks]
    found = [
        "Scores are in per cent on test sets, means over seeds with 95 % intervals (Student's t). The floor is "
        "what random weights of the same shape reach on the same budget; what is above it, pretraining brought. "
        "No share is said of a teacher's score that is not clearly above a floor."
    ]
    if any(its.taught for its in every):
        found.append(
            "Taught by a fine-tuned teacher: learning the task from its logits too; gained: beside labels alone."
        )
    settings = sorted({_words(its.settings) for its in every})
    found += [f"Fine-tuned with {each}; the learning rate is the one that was best on dev." for each in settings]
    return found


def of_speeds(measured: Mapping[str, Measured]) -> list[str]:
    """How speeds were measured, and on what."""
    return [
        "Of the encoder, ids to hidden states: medians, with quartiles of a call with one sample. Times another run: "
        f"samples/s at the longest length; in fp32: as {' or '.join(PLAIN)}, the first of these that it was timed as.",
        *sorted({its.where for each in measured.values() for its in each.speeds}),
        *_apart(measured),
    ]


def of_pictures(runs: Sequence[Run], measured: Mapping[str, Measured], marks: Sequence[Mark]) -> list[str]:
    """Which runs are in pictures, and by which names."""
    found = []
    if len(marks) < len(runs):
        by = "of the lowest held-out loss" if ranks(runs, measured) else "given first, as losses do not compare"
        found.append(f"Pictures have {len(marks)} of {len(runs):,} runs: the teachers, and the others {by}.")
    names = [(mark.run.name, mark.label) for mark in marks]
    names += [(task, written(task, f"task {number}")) for number, task in enumerate(tasks_of(measured), start=1)]
    if others := [f"{shown.partition(':')[0]} is {name}" for name, shown in names if shown != name]:
        found.append(f"In pictures {_and(others)}: too long there, or without a font on the machine that drew them.")
    return found


def of_cost(runs: Sequence[Run], texts: Mapping[str, Text]) -> list[str]:
    """How the figures of what runs took come about."""
    found = ["tokens/s is the median of what was logged. Processes are those that wrote the newest checkpoint."]
    if texts:
        found.append("Tokens seen are the steps times the mean of a batch.")
    if any(run.sessions for run in runs):
        found.append("Hours go from the first sign of each session to its last, with what was waited for or repeated.")
    for what, without in (
        ("what {} began on", [run.name for run in runs if not run.devices]),
        ("the commit of {}", [run.name for run in runs if not run.commit]),
    ):
        if without:
            found.append(f"Not written down: {what.format(_and(without))}.")
    return found


def _of_heldout(runs: Sequence[Run], measured: Mapping[str, Measured]) -> list[str]:
    given = {run.name: its for run in runs if (its := measured[run.name].heldout)}
    found = []
    if given:
        words = sorted({f"{its.masked_tokens:,} masked words of {its.samples:,} samples" for its in given.values()})
        found.append(
            f"Losses are nats a masked word on held-out documents ({_and(words)}); the unigram "
            "guesses the same words by their frequency in the training text. SOP: which of two segments comes first, "
            "with a 95 % interval (Wilson)."
        )
    if any(its.kl is not None for its in given.values()):
        found.append(
            "KL and same word (how often both think the same word likeliest): beside the teacher that "
            "launcher/evaluate.py was given."
        )
    if not comparable(runs, measured):
        found.append("The held-out words or tokenizers are not the same for all runs: their losses do not compare.")
    own = [run for run in runs if run.name not in given]
    if starred := [run for run in own if run.heldout]:
        samples = sorted({run.recipe.train.evaluate_samples for run in starred})
        of = _and([f"{count:,}" if count else "all" for count in samples])
        found.append(
            f"* as {_and([run.name for run in starred])} measured while training, on at most {of} held-out samples; "
            "launcher/evaluate.py RUN --data SHARDS --output FILE.json measures on all, beside the unigram."
        )
        if given:
            found.append("A loss with a * and one without are of different samples: they do not compare.")
        if not alike(starred):
            found.append("Losses with a * are of different held-out samples: they do not compare with each other.")
    if nothing := [run.name for run in own if not run.heldout]:
        found.append(f"Not measured on held-out documents: {_and(nothing)}.")
    for run in runs:
        if run.name in given and measured[run.name].step != run.step:
            found.append(f"{run.name} was measured at step {measured[run.name].step:,}, and is at {run.step:,}.")
    return found


def _words(settings: Mapping[str, Any]) -> str:
    """Of fine-tuning; the learning rates are in the words around it."""
    return ", ".join(f"{name} {value}" for name, value in settings.items() if name != "learning_rates")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
