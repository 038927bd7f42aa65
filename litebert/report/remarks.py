"""What a report says in sentences: what came out, and what has to be known of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from litebert.report.corpora import Text
from litebert.report.figures import Measured, comparable
from litebert.report.runs import Run


def lead(runs: Sequence[Run], measured: Mapping[str, Measured]) -> str:
    """The result, in a sentence or two."""
    losses = {run.name: its for run in runs if (its := measured[run.name].heldout)}
    if not losses:
        return f"{_count(len(runs), 'run')}. No figures on held-out documents were given."
    if len(losses) > 1 and not comparable(runs, measured):
        return f"{_count(len(runs), 'run')} on different text: losses of one are no measure for another."
    name, best = min(losses.items(), key=lambda item: item[1].mlm_loss)
    gain = best.unigram_loss_masked - best.mlm_loss
    words = f"{name} has the lowest held-out loss of {len(losses)} runs" if len(losses) > 1 else f"{name}, held out"
    said = (
        f"{words}: {best.mlm_loss:.3f} nats a masked word with {best.parameters / 1e6:,.2f} million parameters, "
        f"{abs(gain):.3f} {'below' if gain > 0 else 'above'} guessing by frequency."
    )
    return f"{said} {_floors(runs, measured)}".strip()


def _floors(runs: Sequence[Run], measured: Mapping[str, Measured]) -> str:
    scores = [its for run in runs for its in measured[run.name].tasks if its.above and its.above.interval]
    above = [its for its in scores if its.above and its.above.interval and its.above.interval[0] > 0]
    if not scores:
        return ""
    return f"Of {_count(len(scores), 'score')} on tasks, {len(above)} clearly above random weights of the same shape."


def notes(runs: Sequence[Run], measured: Mapping[str, Measured]) -> list[str]:
    """What has to be known of the figures, and which there are none of."""
    found = _of_heldout(runs, measured)
    if any(each.tasks for each in measured.values()):
        found.append(
            "Scores are in per cent on test sets, means over seeds with 95 % intervals (Student's t). The floor is "
            "what random weights of the same shape reach on the same budget; what is above it, pretraining brought."
        )
    else:
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
    settings = sorted({its.settings for each in measured.values() for its in each.tasks})
    return [f"Fine-tuned with {each}; the learning rate is the one that was best on dev." for each in settings]


def of_cost(runs: Sequence[Run], texts: Mapping[str, Text]) -> list[str]:
    """How the figures of what runs took come about."""
    found = ["tokens/s is the median of what was logged. Processes are those that wrote the newest checkpoint."]
    if texts:
        found.append("Tokens seen are the steps times the mean of a batch.")
    if any(run.sessions for run in runs):
        found.append("Hours go from the first sign of each session to its last, with what was waited for or repeated.")
    if without := [run.name for run in runs if not run.devices]:
        found.append(f"Not written down: what {_and(without)} began on.")
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
    if nothing := [run.name for run in own if not run.heldout]:
        found.append(f"Not measured on held-out documents: {_and(nothing)}.")
    for run in runs:
        if run.name in given and measured[run.name].step != run.step:
            found.append(f"{run.name} was measured at step {measured[run.name].step:,}, and is at {run.step:,}.")
    return found


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
