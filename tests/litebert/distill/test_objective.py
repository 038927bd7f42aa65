"""Every loss of distillation at once against the definitions, sample by sample on whole logits in float64."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from litebert.data.batch import Counts, MicroBatch
from litebert.distill.config import DistillConfig
from litebert.distill.objective import DistillationObjective
from litebert.distill.sources import Live
from litebert.distill.states import Wanted
from litebert.distill.teacher import Teacher
from litebert.model.attention import Packing
from litebert.model.encoder import ModelConfig, SelfAttention
from litebert.model.heads import PretrainingModel
from litebert.objectives import ObjectiveConfig

TEACHER = ModelConfig(
    vocab_size=40, hidden_size=24, embedding_size=24, num_layers=4, num_heads=2, intermediate_size=32, max_positions=32
)
NARROW = dataclasses.replace(TEACHER, hidden_size=12, embedding_size=8, num_layers=2, token_types=0)
SAME = dataclasses.replace(TEACHER, num_layers=2, token_types=0, pooler=False)
HARD = ObjectiveConfig(mlm=2.0, sop=0.5)
LENGTHS = (5, 9, 9, 14)


def model(config: ModelConfig, seed: int, dtype: torch.dtype = torch.float64) -> PretrainingModel:
    torch.manual_seed(seed)
    made = PretrainingModel(config).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def teacher(seed: int, config: ModelConfig = TEACHER) -> Teacher:
    return Teacher(Path("teacher"), model(config, seed).eval().requires_grad_(False), "")


def batch_of(samples: range) -> MicroBatch:
    """Some of four samples, of a step of all four; one has no pair."""
    chance = np.random.default_rng(3)
    parts: dict[str, list[Any]] = {"ids": [], "types": [], "masked": [], "labels": [], "order": []}
    counts, begin = {"masked": 0, "pairs": 0}, 0
    for number, length in enumerate(LENGTHS):
        ids, types = chance.integers(0, 40, length), np.arange(length) > length // 2
        masked = np.sort(chance.choice(length, 1 + number, replace=False))
        labels, order = chance.integers(0, 40, len(masked)), (-1, 0, 1, 1)[number]
        counts["masked"] += len(masked)
        counts["pairs"] += order >= 0
        if number in samples:
            for name, value in {"ids": ids, "types": types, "masked": begin + masked, "labels": labels}.items():
                parts[name].extend(value.tolist())
            parts["order"].append(order)
            begin += length
    tensors = {name: torch.tensor(value, dtype=torch.int64) for name, value in parts.items()}
    return MicroBatch(
        tensors["ids"],
        tensors["types"],
        Packing.of([LENGTHS[number] for number in samples]),
        tensors["masked"],
        tensors["labels"],
        tensors["order"],
        Counts(sum(LENGTHS), len(LENGTHS), counts["masked"], counts["pairs"]),
    )


def objective_of(student: PretrainingModel, soft: DistillConfig, teachers: list[Teacher]) -> DistillationObjective:
    """With layers 2 and 4 of the teacher for the student's two."""
    pairs = ((2, 4),) if soft.map == "last" else ((1, 2), (2, 4))
    compared = pairs if soft.cos or soft.hidden else ()
    wanted = Wanted.of(soft, [its for _, its in compared], pairs=soft.sop > 0)
    hard = HARD if student.pair is not None else dataclasses.replace(HARD, sop=0.0)
    torch.manual_seed(9)
    source = Live(teachers, wanted, soft.temperature)
    objective = DistillationObjective(student, source, soft, hard, compared, TEACHER.hidden_size)
    return objective.double()


def kl(teacher_logs: Tensor, student_logs: Tensor) -> Tensor:
    return (teacher_logs.exp() * (teacher_logs - student_logs)).sum()


def inside(of: PretrainingModel, ids: Tensor, types: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """One sample: hidden states of each layer, logits of all places, and q, k, v of the last layer by head."""
    packing = Packing.of([len(ids)])
    hidden = list(of.encoder.hidden_states(ids, types, packing))
    block = of.encoder.attention[of.config.layers[-1][0]]
    assert isinstance(block, SelfAttention)
    qkv = [x.unflatten(-1, (2, -1)).transpose(0, 1) for x in block.qkv(hidden[-2]).chunk(3, -1)]
    logits = of.mlm.transform(hidden[-1]) @ of.encoder.embeddings.word.weight.T + of.mlm.bias
    return hidden, logits, qkv


def naive(objective: DistillationObjective, soft: DistillConfig, teachers: list[Teacher]) -> dict[str, Tensor]:
    """The losses of the step, unweighted."""
    student, temperature = objective.model, soft.temperature
    whole = batch_of(range(4))
    sums: dict[str, Any] = dict.fromkeys(("mlm", "sop", "ce", "cos", "hidden", "relation", "soft_sop", "agreement"), 0)
    bounds = whole.packing.cu_seqlens.tolist()
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        ids, types = whole.ids[begin:end], whole.token_types[begin:end]
        own_hidden, own_logits, own_qkv = inside(student, ids, types)
        told = [inside(each.model, ids, types) for each in teachers]
        its_hidden, _, its_qkv = told[0]
        masked = [place - begin for place in whole.masked.tolist() if begin <= place < end]
        both = zip(whole.masked.tolist(), whole.labels.tolist(), strict=True)
        labels = [label for place, label in both if begin <= place < end]
        shares = torch.stack([(logits / temperature).softmax(-1) for _, logits, _ in told]).mean(0)
        for place in range(end - begin):
            if place in masked or soft.ce_at == "all":
                own = (own_logits[place] / temperature).log_softmax(-1)
                sums["ce"] += temperature**2 * kl(shares[place].log(), own)
                sums["agreement"] += float(own_logits[place].argmax() == shares[place].argmax())
            if place in masked or soft.hidden_at == "all":
                for own_layer, its_layer in objective._layers:
                    mine, its = own_hidden[own_layer][place], its_hidden[its_layer][place]
                    mine = mine if objective.projection is None else objective.projection(mine)
                    sums["cos"] += (1 - mine @ its / mine.norm() / its.norm()) / len(objective._layers)
                    sums["hidden"] += (mine - its).pow(2).mean() / len(objective._layers)
        for place, label in zip(masked, labels, strict=True):
            sums["mlm"] -= own_logits[place].log_softmax(-1)[label]
        for left, right in ((0, 1), (2, 2)):
            for head in range(2):
                its, own = [
                    (qkv[left][head] @ qkv[right][head].T / qkv[left][head].shape[-1] ** 0.5).log_softmax(-1)
                    for qkv in (its_qkv, own_qkv)
                ]
                sums["relation"] += kl(its, own) / 2
        if student.pair is not None and (order := int(whole.order[number])) >= 0:
            own = student.pair(own_hidden[-1][:1])[0]
            sums["sop"] -= own.log_softmax(-1)[order]
            heads = [
                (each.model.pair(hidden[-1][:1])[0] / temperature).softmax(-1)
                for each, (hidden, _, _) in zip(teachers, told, strict=True)
                if each.model.pair is not None
            ]
            pairs = torch.stack(heads)
            sums["soft_sop"] += temperature**2 * kl(pairs.mean(0).log(), (own / temperature).log_softmax(-1))
    masked_all, tokens, pairs_all = whole.counts.masked, whole.counts.tokens, whole.counts.pairs
    words = tokens if soft.ce_at == "all" else masked_all
    states = tokens if soft.hidden_at == "all" else masked_all
    over = {"mlm": masked_all, "sop": pairs_all, "soft_sop": pairs_all, "ce": words, "agreement": words}
    over |= {"cos": states, "hidden": states, "relation": tokens}
    return {name: torch.as_tensor(total) / over[name] for name, total in sums.items()}


EVERYTHING = DistillConfig(ce=5.0, cos=1.0, sop=0.7, hidden=0.3, relation=0.2, temperature=2.0)
WORDS = DistillConfig(ce=3.0, cos=0.0, sop=0.4, temperature=3.0)
WAYS: list[dict[str, Any]] = [
    {"ce_at": ce_at, "hidden_at": hidden_at, "map": layers}
    for ce_at, hidden_at, layers in itertools.product(("masked", "all"), ("masked", "all"), ("last", "all"))
]


@pytest.mark.parametrize(
    ("config", "soft", "teachers"),
    [
        *((NARROW, dataclasses.replace(EVERYTHING, **way), 1) for way in WAYS),
        (SAME, DistillConfig(), 1),
        (SAME, DistillConfig(ce=0.0, relation=1.0), 1),
        (SAME, DistillConfig(ce=0.0, relation=1.0, ce_at="all"), 1),
        (NARROW, dataclasses.replace(EVERYTHING, ce=0.0), 1),
        (NARROW, WORDS, 2),
        (NARROW, dataclasses.replace(WORDS, ce_at="all"), 3),
    ],
)
def test_losses_and_gradients_are_the_definitions(config: ModelConfig, soft: DistillConfig, teachers: int) -> None:
    """Of two micro-batches, which add up to the step."""
    of = [teacher(seed) for seed in range(10, 10 + teachers)]
    objective = objective_of(model(config, 1), soft, of)
    parts = [objective(batch_of(samples)) for samples in (range(0, 1), range(1, 4))]
    values = {name: sum(part.values[name].double() for part in parts) for name in parts[0].values}
    loss = parts[0].loss + parts[1].loss
    expected = naive(objective, soft, of)
    weights = {"mlm": HARD.mlm, "ce": soft.ce, "cos": soft.cos, "hidden": soft.hidden, "relation": soft.relation}
    if objective.model.pair is not None:
        weights |= {"sop": HARD.sop, "soft_sop": soft.sop}
    total = torch.stack([weight * expected[name] for name, weight in weights.items()]).sum()
    torch.testing.assert_close(loss, total, rtol=1e-10, atol=0)
    told = {name: expected[name].detach() for name, weight in weights.items() if weight}
    told |= {"agreement": expected["agreement"]} if soft.ce else {}
    accuracies = {"mlm_accuracy"} | ({"sop_accuracy"} & {f"{k}_accuracy" for k in told})
    assert values.keys() == told.keys() | {"loss"} | accuracies
    for name, value in told.items():
        assert float(values[name]) == pytest.approx(float(value), rel=1e-6, abs=1e-12), name
    parameters = dict(objective.named_parameters())
    ours = torch.autograd.grad(loss, [*parameters.values()])
    theirs = torch.autograd.grad(total, [*parameters.values()], allow_unused=True, materialize_grads=True)
    for name, gradient, reference in zip(parameters, ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-8, atol=1e-12, msg=name)


@pytest.mark.parametrize("mlm", [0.0, 2.0])
def test_words_without_a_weight_are_not_computed_in_training(mlm: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole vocabulary is met as often as it has to be; and every parameter gets a gradient, if only of zeros."""
    soft, of = DistillConfig(ce=0.0, hidden=1.0, relation=1.0), teacher(10)
    hard, compared = ObjectiveConfig(mlm=mlm, sop=0.0), ((2, 4),)
    wanted = Wanted.of(soft, [4], pairs=False)
    student = model(NARROW, 1)
    objective = DistillationObjective(student, Live([of], wanted, 2.0), soft, hard, compared, 24).double()
    met: list[int] = []
    linear = torch.nn.functional.linear

    def counted(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        met.extend([len(rows)] * (len(weight) == TEACHER.vocab_size))
        return linear(rows, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    batch = batch_of(range(4))
    contribution = objective(batch)
    assert met == ([len(batch.labels)] if mlm else [])
    assert ("mlm" in contribution.values) == bool(mlm) and "ce" not in contribution.values
    contribution.loss.backward()
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    heads = [gradient for name, gradient in gradients.items() if name.startswith("model.mlm")]
    assert len(heads) == 5 and all(bool(gradient.any()) == bool(mlm) for gradient in heads if gradient is not None)
    values = objective.eval()(batch).values
    assert len(met) > 2 and {"mlm", "mlm_accuracy", "ce", "kl", "agreement"} <= values.keys()
    sums = {name: naive(objective, soft, [of])[name] for name in ("mlm", "hidden", "relation")}
    total = mlm * sums["mlm"] + sums["hidden"] + sums["relation"] + naive(objective, soft, [of])["cos"]
    assert contribution.loss.item() == pytest.approx(total.item(), rel=1e-10)


def test_in_evaluation_teachers_are_asked_at_temperature_1() -> None:
    of, words = [teacher(seed) for seed in (10, 11, 12)], DistillConfig(cos=0.0, ce_at="all", temperature=8.0)
    objective = objective_of(model(SAME, 1), words, of).eval()
    plain = naive(objective, dataclasses.replace(words, temperature=1.0), of)
    with torch.no_grad():
        values = objective(batch_of(range(4))).values
        trained = objective.train()(batch_of(range(4))).values
    assert float(values["kl"]) == pytest.approx(float(plain["ce"]), rel=1e-6)
    assert float(values["agreement"]) == pytest.approx(float(plain["agreement"]), rel=1e-6)
    assert "kl" not in trained
    assert float(trained["ce"]) == pytest.approx(float(naive(objective, words, of)["ce"]), rel=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    of = teacher(10)
    objective = objective_of(model(TEACHER, 10), dataclasses.replace(EVERYTHING, cos=0.0, hidden=0.0), [of]).eval()
    values = objective(batch_of(range(4))).values
    for name in ("ce", "kl", "soft_sop", "relation"):
        assert float(values[name]) == pytest.approx(0, abs=1e-12)
    assert float(values["agreement"]) == pytest.approx(1)


def test_the_teacher_is_no_part_of_what_is_trained() -> None:
    of = teacher(10)
    objective = objective_of(model(NARROW, 1), EVERYTHING, [of])
    its = {parameter.data_ptr() for parameter in of.model.parameters()}
    assert not its & {parameter.data_ptr() for parameter in objective.parameters()}
    assert not any(module is of.model for module in objective.modules())
    objective.train()(batch_of(range(4))).loss.backward()
    assert not of.model.training and all(parameter.grad is None for parameter in of.model.parameters())
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="2 teachers: only what they say can be averaged"):
        objective_of(model(NARROW, 1), EVERYTHING, [teacher(10), teacher(11)])
    headless = teacher(10, dataclasses.replace(TEACHER, pooler=False))
    with pytest.raises(ValueError, match=r"distill\.sop: teacher has no pair head: set it to 0"):
        objective_of(model(NARROW, 1), EVERYTHING, [headless])
    heads = model(dataclasses.replace(NARROW, hidden_size=10, num_heads=5), 1)
    with pytest.raises(ValueError, match="divides the teacher's width 24, and 5 does not"):
        objective_of(heads, EVERYTHING, [teacher(10)])
