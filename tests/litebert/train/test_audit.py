"""Ledgers that are as planned, and every way in which one may not be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from litebert.data.digest import terms
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.train.audit import Audit, audit
from litebert.train.ledger import Kind, Ledger, Records, read

CONFIG = DataConfig(global_batch=37, micro_tokens=512)
STEPS = 200


@pytest.fixture(scope="module")
def plan(shards) -> Plan:
    return Plan(Split(shards, "train"), CONFIG)


@pytest.fixture(scope="module")
def ledger(shards, tmp_path_factory) -> Records:
    """Of a run on three ranks, over more than an epoch; step 20 was ruled out."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.bin"
    shares: list[torch.Tensor] = []
    for rank in (2, 1, 0):
        total = shares.append if rank else lambda numbers: numbers.add_(shares[0]).add_(shares[1])
        kept = Ledger(path, None, rank == 0, total)
        for step in Loader(Split(shards, "train"), CONFIG, rank, 3, 0, STEPS):
            kept.append(step, skipped=step.number == 20)
        kept.commit()
    records, torn = read(path)
    assert len(records) == STEPS and not torn
    records = records.copy()
    return records


def audited(records: Records, plan: Plan) -> Audit:
    return audit(records, plan, CONFIG.global_batch, frozenset({20}))


def test_what_ranks_decoded_is_what_was_planned(ledger, plan):
    found = audited(ledger, plan)
    assert found.difference == "" and found.steps == STEPS
    assert found.skipped.tolist() == [20] and found.trained == (STEPS - 1) * 37
    assert found.epochs == [STEPS * 37 / plan.corpus.samples] and found.epochs[0] > 1
    assert audited(ledger[:0], plan).steps == 0


def test_steps_are_left_out_where_a_roll_back_says_so_and_nowhere_else(ledger, plan):
    assert audit(ledger, plan, 37).difference == "step 20 is said to be left out, and no roll-back ruled its batch out"
    said = audit(ledger, plan, 37, frozenset({20, 31, 999})).difference
    assert said == "step 31 was trained on, and a roll-back ruled its batch out"


def test_a_kind_that_is_unknown_is_named(ledger, plan):
    changed = ledger.copy()
    changed["kind"][8] = 7
    assert audited(changed, plan).difference.startswith("step 8 has a record of kind 7")


def test_what_was_refused_is_listed_and_not_counted_as_trained(ledger, plan):
    changed = ledger.copy()
    changed["kind"][[3, 4]] = Kind.REFUSED
    found = audited(changed, plan)
    assert found.difference == "" and found.refused.tolist() == [3, 4] and found.trained == (STEPS - 3) * 37


def test_numbers_that_make_no_sense_are_shown_as_they_are(ledger, plan):
    changed = ledger.copy()
    changed["step"][50] = 2**64 - 2
    assert audited(changed, plan).difference == f"step 50 is not in the ledger: step {2**64 - 2} follows step 49"
    told = np.zeros(1, ledger.dtype)
    told["kind"], told["samples"], told["step"], told["value"] = Kind.QUARANTINED, 1, 9, 2**64 - 5
    found = audited(np.concatenate([ledger[:9], told, ledger[9:]]), plan)
    assert f"step 9: sample {2**64 - 5} is said to be left out" in found.difference


def test_a_gap_and_a_repeat_are_named(ledger, plan):
    gap = np.concatenate([ledger[:50], ledger[53:]])
    assert audited(gap, plan).difference == "step 50 is not in the ledger: step 53 follows step 49"
    repeat = np.concatenate([ledger[:50], ledger[48:]])
    assert audited(repeat, plan).difference.startswith("step 48 stands in the ledger again after step 49")


def test_a_batch_taken_twice_is_named(ledger, plan):
    changed = ledger.copy()
    changed["value"][60] = changed["value"][41]
    assert audited(changed, plan).difference.endswith(": they are those of step 41")
    assert audited(changed, plan).difference.startswith("step 60 (epoch 0 of ")


@pytest.mark.parametrize(("times", "said"), [(-1, "is missing"), (1, "is there twice")])
def test_a_sample_left_out_or_repeated_is_named(ledger, plan, times, said):
    run = plan.step(150).runs[-1]
    own = terms(plan.corpus.splits[0].keys[run.samples], run.places, run.epoch)
    changed = ledger.copy()
    changed["value"][150:151] += own[3:4] * np.uint64(times % 2**64)
    assert audited(changed, plan).difference.endswith(f": sample {run.samples[3]} {said}")


def test_another_order_within_a_batch_shows(ledger, plan):
    run = plan.step(10).runs[0]
    keys = plan.corpus.splits[0].keys[run.samples]
    changed = ledger.copy()
    assert changed["value"][10] == sum(terms(keys, run.places, 0).tolist()) % 2**64
    changed["value"][10] = sum(terms(keys, run.places[::-1].copy(), 0).tolist()) % 2**64
    assert audited(changed, plan).difference.startswith("step 10 (epoch 0 of ")


def test_the_first_difference_is_the_one_that_is_named(ledger, plan):
    changed = ledger.copy()
    changed["value"][[70, 30, 110]] ^= np.uint64(1)
    assert audited(changed, plan).difference.startswith("step 30 (")
    assert audited(np.concatenate([changed[:25], changed[26:]]), plan).difference.startswith("step 25 is not")


def test_another_count_shows(ledger, plan):
    changed = ledger.copy()
    changed["samples"][7] = 36
    assert audited(changed, plan).difference.startswith("step 7 (")


def test_quarantine_is_taken_at_its_word_only_for_planned_samples(ledger, plan):
    step = plan.step(9)
    run = step.runs[0]
    lost = run.samples[[2, 5]]
    own = terms(plan.corpus.splits[0].keys[lost], run.places[[2, 5]], run.epoch)
    changed = ledger.copy()
    changed["value"][9:10] -= own.sum()
    changed["samples"][9] -= 2
    assert audited(changed, plan).difference.startswith("step 9 (")
    told = np.zeros(2, ledger.dtype)
    told["kind"], told["samples"], told["step"], told["value"] = Kind.QUARANTINED, 1, 9, lost
    found = audited(np.concatenate([changed[:9], told, changed[9:]]), plan)
    assert found.difference == "" and found.quarantined.tolist() == [[9, sample] for sample in lost]
    planned = set(step.runs[0].samples.tolist())
    told["value"][0] = next(sample for sample in range(plan.corpus.samples) if sample not in planned)
    assert audited(np.concatenate([changed[:9], told, changed[9:]]), plan).difference.startswith("step 9")
