"""What runs keep of their teacher, and what they save: shares of its score, its size and its speed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from scipy import stats

from litebert.report.results import Measured, Score, Speed, TaskScores
from litebert.report.runs import Run

PLAIN = ("transformers", "litebert", "onnx")  # forms in fp32; the first that a run was timed in is what others beat
SMALL = "onnx int8"
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Trade:
    """A run beside its teacher. What there are no figures for is None.

    Attributes:
        run, teacher: their names.
        taught: whether that teacher taught the run.
        size: share of the teacher's parameters.
        tasks: that all runs beside that teacher have scores on, if they have any that compare with its.
        unlike: names of tasks whose scores do not compare with the teacher's, and why.
        metric: of ``tasks``; empty where it differs.
        score: of the run, the mean over ``tasks``.
        above: whether the teacher's score is clearly above each floor that there is, its own and the run's.
        kept: share of the teacher's score; None where that is not ``above``.
        lead: share of what the teacher is above random weights of the run's shape, if that floor was measured too.
        plain: times as fast as the teacher, both in fp32.
        small: times as fast in int8 as the teacher in fp32.
    """

    run: str
    teacher: str
    taught: bool
    size: float
    tasks: Sequence[str]
    unlike: Mapping[str, str]
    metric: str
    score: Score | None
    above: bool
    kept: Score | None
    lead: Score | None
    plain: float | None
    small: float | None


def teachers_of(runs: Sequence[Run]) -> dict[str, str]:
    """By which of the runs each was taught, by name, if by any of them as it is now.

    Of runs of the same weights it is the first. If there is a student at all, the weights of every run are read.
    """
    told = {run.name: run.fingerprints["teacher"] for run in runs if "teacher" in run.fingerprints}
    if not told or len(runs) < 2:
        return {}
    found = {run.weights: run.name for run in reversed(runs)}
    return {student: found[teacher] for student, teacher in told.items() if teacher in found}


def beside(runs: Sequence[Run], teachers: Mapping[str, str]) -> dict[str, str]:
    """The teacher that each run is held against: its own, else the only one that there is."""
    every = set(teachers.values())
    only = every.pop() if len(every) == 1 else ""
    return {run.name: teacher for run in runs if (teacher := teachers.get(run.name, only))}


def trades(runs: Sequence[Run], measured: Mapping[str, Measured], teachers: Mapping[str, str]) -> list[Trade]:
    """Of every run that there is a teacher for, the teacher itself among them."""
    by_name = {run.name: run for run in runs}
    pairs = beside(runs, teachers)
    shared = {teacher: _shared(teacher, pairs, measured) for teacher in pairs.values()}
    return [
        _trade(by_name[name], by_name[teacher], measured, shared[teacher], teachers.get(name) == teacher)
        for name, teacher in pairs.items()
    ]


def counterpart(scores: TaskScores, its: Measured) -> TaskScores | None:
    """Of another run's scores the one on the same task that it compares with."""
    return next((other for other in its.tasks if not scores.unlike(other)), None)


def kept(own: TaskScores, teacher: TaskScores) -> tuple[Score | None, Score | None]:
    """Shares of a teacher's score, and of its lead over the run's floor, on the same task; None as ``Trade`` says."""
    if not above(own, teacher) or teacher.model.mean <= 0:
        return None, None
    if own is teacher:
        return Score(1.0, None), Score(1.0, None) if own.floor else None
    return share(own.model, teacher.model), share(own.model, teacher.model, own.floor) if own.floor else None


def above(own: TaskScores, teacher: TaskScores) -> bool:
    """Whether a teacher's score is clearly above each floor that there is, its own and a run's, on the same task."""
    return all(_clear(teacher.model, its.floor) for its in (own, teacher) if its.floor)


def share(part: Score, whole: Score, floor: Score | None = None) -> Score:
    """(part - floor) / (whole - floor), with the interval that the delta method gives for independent seeds."""
    base = floor.mean if floor else 0.0
    found = (part.mean - base) / (whole.mean - base)
    slopes = [(1.0, part), (-found, whole), *([(found - 1, floor)] if floor else [])]
    around = _margin([(slope / (whole.mean - base), score) for slope, score in slopes])
    return Score(found, None if around is None else (found - around, found + around))


def mean_of(scores: Sequence[Score]) -> Score:
    """Over tasks; its interval is that of the seeds' means, None where they are not as many on all tasks."""
    counts = {len(score.scores) for score in scores}
    seeds = [fmean(each) for each in zip(*(score.scores for score in scores), strict=True)] if len(counts) == 1 else []
    mean = fmean(score.mean for score in scores)
    own = Score(mean, None, tuple(seeds))
    around = _margin([(1.0, own)])
    return own if around is None else dataclasses.replace(own, interval=(mean - around, mean + around))


def times(speed: Speed, base: Speed | None) -> float | None:
    """How many times as many samples/s, at the longest length that both have; None where not timed in turn with it."""
    if base is None or speed.file != base.file:
        return None
    if not (shared := speed.samples_per_s.keys() & base.samples_per_s.keys()):
        return None
    longest = max(shared)
    return speed.samples_per_s[longest][1] / base.samples_per_s[longest][1]


def timed_as(speeds: Sequence[Speed], threads: str, *kinds: str) -> Speed | None:
    """The first of some kinds of form that there is with so many threads."""
    by_form = {speed.form: speed for speed in speeds}
    return next((by_form[form] for kind in kinds if (form := f"{kind}, {threads}") in by_form), None)


def _shared(teacher: str, pairs: Mapping[str, str], measured: Mapping[str, Measured]) -> list[str]:
    """Tasks that all runs beside a teacher have scores on which compare with its, of the runs that have any."""
    its = measured[teacher]
    own = [measured[name].tasks for name, other in pairs.items() if other == teacher != name]
    found = [{scores.task for scores in tasks if counterpart(scores, its)} for tasks in own]
    return [scores.task for scores in its.tasks if any(found) and all(scores.task in each for each in found if each)]


def _trade(run: Run, teacher: Run, measured: Mapping[str, Measured], shared: Sequence[str], taught: bool) -> Trade:
    own, its = (measured[each.name] for each in (run, teacher))
    pairs = {scores.task: (scores, other) for scores in own.tasks if (other := counterpart(scores, its))}
    tasks = [task for task in shared if task in pairs]
    mine, theirs = (_over([pairs[task][place] for task in tasks]) for place in (0, 1))
    mine = theirs if run is teacher else mine
    shares = kept(mine, theirs) if mine and theirs else (None, None)
    speeds, base = measured[run.name].speeds, measured[teacher.name].speeds
    threads = base[0].threads if base else ""
    plain = timed_as(base, threads, *PLAIN)
    same = timed_as(speeds, threads, plain.kind) if plain else None
    small = timed_as(speeds, threads, SMALL)
    return Trade(
        run=run.name,
        teacher=teacher.name,
        taught=taught,
        size=run.parameters / teacher.parameters,
        tasks=tasks,
        unlike=_unlike(own, its),
        metric=mine.metric if mine else "",
        score=mine.model if mine else None,
        above=not (mine and theirs) or above(mine, theirs),
        kept=shares[0],
        lead=shares[1],
        plain=times(same, plain) if same else None,
        small=times(small, plain) if small else None,
    )


def _unlike(own: Measured, its: Measured) -> dict[str, str]:
    """Why a run's scores on tasks do not compare with a teacher's on tasks of their names."""
    others = {other.folder: other for other in its.tasks} | {other.task: other for other in its.tasks}
    alone = [scores for scores in own.tasks if not counterpart(scores, its)]
    named = [(scores, others.get(scores.task) or others.get(scores.folder)) for scores in alone]
    return {scores.task: ", ".join(scores.unlike(other)) for scores, other in named if other}


def _over(tasks: Sequence[TaskScores]) -> TaskScores | None:
    """The means over some tasks as if of one; its floor is there if all have one."""
    if not tasks:
        return None
    floors = [scores.floor for scores in tasks if scores.floor]
    metrics = {scores.metric for scores in tasks}
    return dataclasses.replace(
        tasks[0],
        metric=metrics.pop() if len(metrics) == 1 else "",
        model=mean_of([scores.model for scores in tasks]),
        floor=mean_of(floors) if len(floors) == len(tasks) else None,
    )


def _clear(score: Score, floor: Score) -> bool:
    """Whether a score is above a floor by more than their seeds say by chance."""
    around = _margin([(1.0, score), (-1.0, floor)])
    return around is not None and score.mean - around > floor.mean


def _margin(parts: Sequence[tuple[float, Score]]) -> float | None:
    """Half the width of a weighted sum's 95 % interval (Welch 1947); None where one is of a single seed."""
    known = [(weight, _spread(score)) for weight, score in parts]
    spreads = [(weight**2 * spread[0], spread[1]) for weight, spread in known if spread]
    if len(spreads) < len(parts):
        return None
    if not (total := sum(spread for spread, _ in spreads)):
        return 0.0
    freedom = total**2 / sum(spread**2 / own for spread, own in spreads)
    return _quantile(freedom) * math.sqrt(total)


def _spread(score: Score) -> tuple[float, int] | None:
    """Variance of a mean, and its degrees of freedom; None of a single seed."""
    if (count := len(score.scores)) > 1:
        return variance(score.scores) / count, count - 1
    if score.seeds > 1 and score.interval:
        low, high = score.interval
        return ((high - low) / 2 / _quantile(score.seeds - 1)) ** 2, score.seeds - 1
    return None


def _quantile(freedom: float) -> float:
    """Of Student's t: half the width of a 95 % interval, in standard errors."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
