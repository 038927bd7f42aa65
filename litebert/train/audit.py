"""Whether a run was fed what it was to be fed: its ledger beside the plan, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Set

import numpy as np
import numpy.typing as npt

from litebert.data.digest import planned_digests, terms
from litebert.data.plan import Plan, StepPlan
from litebert.train.ledger import Kind, Records

U64 = npt.NDArray[np.uint64]


@dataclasses.dataclass(frozen=True)
class Audit:
    """What a ledger shows.

    Attributes:
        steps: in it.
        trained: samples that were trained on.
        epochs: by folder, how far its epochs have come.
        skipped: uint64, steps whose batches roll-backs ruled out.
        refused: uint64, steps whose samples were fed and not learnt from, for loss or gradient were not finite.
        quarantined: uint64 [samples, 2], step and sample (numbered through the folders) of each that was left out.
        difference: the first between ledger and plan, in a line; empty where there is none.
    """

    steps: int
    trained: int
    epochs: list[float]
    skipped: U64
    refused: U64
    quarantined: U64
    difference: str


def audit(records: Records, plan: Plan, global_batch: int, ruled_out: Set[int] = frozenset()) -> Audit:
    """Compares a ledger with the plan.

    Args:
        ruled_out: the batches that roll-backs say were left out, numbered as steps.

    Raises:
        ValueError: the folders have no sound index of keys.
    """
    own = records["kind"] == Kind.QUARANTINED
    steps, left_out = records[~own], records[own]
    numbers = steps["step"]
    in_turn = numbers == np.arange(len(numbers), dtype=np.uint64)
    sound = len(numbers) if in_turn.all() else int(np.argmin(in_turn))
    expected = planned_digests(plan, sound)
    planned = np.full(sound, global_batch, np.int64)
    strange = ""
    left_out = left_out[np.argsort(left_out["step"], kind="stable")]
    of_steps, begins = np.unique(left_out["step"], return_index=True)
    for number, values in zip(of_steps.tolist(), np.split(left_out["value"], begins[1:]), strict=False):
        if number >= sound:
            break
        lost, unknown = _left_out(plan, number, values)
        if unknown and not strange:
            strange = f"step {number}: sample {unknown[0]} is said to be left out, and was not planned for it"
        expected[number : number + 1] -= lost.sum()
        planned[number] -= len(lost)
    found = steps[:sound]
    same = (found["value"] == expected) & (found["samples"] == planned)
    if not same.all():
        difference = _differing(int(np.argmin(same)), found, expected, plan)
    elif strange or sound == len(numbers):
        difference = strange or _misjudged(steps, ruled_out)
    else:
        difference = _out_of_turn(sound, numbers)
    taken = plan.mixture.taken(sound)
    return Audit(
        steps=len(numbers),
        trained=int(steps["samples"][steps["kind"] == Kind.TRAINED].sum(dtype=np.int64)),
        epochs=[int(count) / split.samples for count, split in zip(taken, plan.corpus.splits, strict=True)],
        skipped=numbers[steps["kind"] == Kind.SKIPPED],
        refused=numbers[steps["kind"] == Kind.REFUSED],
        quarantined=np.stack([left_out["step"], left_out["value"]], 1),
        difference=difference,
    )


def _misjudged(steps: Records, ruled_out: Set[int]) -> str:
    """The first step, all being in turn, that is of no known kind, or left out or not against what was ruled."""
    kinds = steps["kind"]
    unknown = ~np.isin(kinds, list(Kind))
    skipped = kinds == Kind.SKIPPED
    wrong = unknown | (skipped != np.isin(np.arange(len(steps)), list(ruled_out)))
    if not wrong.any():
        return ""
    number = int(np.argmax(wrong))
    if unknown[number]:
        return f"step {number} has a record of kind {kinds[number]}, which this litebert does not know"
    if skipped[number]:
        return f"step {number} is said to be left out, and no roll-back ruled its batch out"
    return f"step {number} was trained on, and a roll-back ruled its batch out"


def _out_of_turn(place: int, numbers: U64) -> str:
    number = int(numbers[place])
    if number < place:
        return f"step {number} stands in the ledger again after step {place - 1}, where step {place} should"
    return f"step {place} is not in the ledger: step {number} follows step {place - 1}"


def _samples(step: StepPlan, plan: Plan) -> tuple[npt.NDArray[np.int64], U64]:
    """A batch's samples, numbered through the folders, and their digest's terms."""
    begins, splits = plan.corpus.sample_begins, plan.corpus.splits
    samples = [begins[run.folder] + run.samples for run in step.runs]
    found = [terms(splits[run.folder].keys[run.samples], run.places, run.epoch) for run in step.runs]
    return np.concatenate(samples), np.concatenate(found)


def _left_out(plan: Plan, number: int, values: U64) -> tuple[U64, list[int]]:
    """The terms of samples that are left out of a step, and those of the samples that are not in it."""
    samples, own = _samples(plan.step(number), plan)
    samples = samples.astype(np.uint64)
    return own[np.isin(samples, values)], np.setdiff1d(values, samples).tolist()


def _differing(number: int, found: Records, expected: U64, plan: Plan) -> str:
    """What is wrong with a step, as far as two numbers tell."""
    was, should = int(found["value"][number]), int(expected[number])
    step = plan.step(number)
    epochs = sorted({(run.folder, run.epoch) for run in step.runs})
    where = ", ".join(f"epoch {epoch} of {plan.corpus.splits[folder].location}" for folder, epoch in epochs)
    said = f"step {number} ({where}): {found['samples'][number]} samples of digest {was:016x}, planned {should:016x}"
    samples, own = _samples(step, plan)
    if len(other := np.flatnonzero(expected == np.uint64(was))):
        return f"{said}: they are those of step {other[0]}"
    if len(missing := samples[own == np.uint64((should - was) % 2**64)]):
        return f"{said}: sample {missing[0]} is missing"
    if len(twice := samples[own == np.uint64((was - should) % 2**64)]):
        return f"{said}: sample {twice[0]} is there twice"
    return said
