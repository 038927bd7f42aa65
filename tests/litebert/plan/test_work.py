"""Parameters, operations and memory beside what torch counts in a real model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_tools.shards.cache import Cache
from litebert.data.batch import Counts, MicroBatch
from litebert.data.corpus import Corpus
from litebert.data.plan import DataConfig, Plan
from litebert.model.attention import Packing
from litebert.model.encoder import Encoder, ModelConfig
from litebert.model.heads import PretrainingModel
from litebert.model.presets import PRESETS
from litebert.objectives import ObjectiveConfig, PretrainingObjective
from litebert.plan.memory import activations
from litebert.plan.work import Work, computed_again, operations, parameters, work_of

LENGTHS = [10] * 5 + [24] * 7
SHAPE = ModelConfig(
    vocab_size=301, hidden_size=64, embedding_size=32, num_layers=3, num_heads=4, intermediate_size=200, sharing="all"
)
SHAPES = {
    "factorised": SHAPE,
    "bert": dataclasses.replace(SHAPE, embedding_size=64, sharing="none"),
    "without pairs": dataclasses.replace(SHAPE, pooler=False, token_types=0, num_layers=2),
}


def batch_of(lengths: list[int], masked: int) -> tuple[MicroBatch, Work]:
    packing = Packing.of(lengths)
    tokens, samples = packing.tokens, len(lengths)
    batch = MicroBatch(
        ids=torch.randint(0, 301, (tokens,)),
        token_types=torch.zeros(tokens, dtype=torch.int64),
        packing=packing,
        masked=torch.arange(masked),
        labels=torch.arange(masked),
        order=torch.zeros(samples, dtype=torch.int64),
        counts=Counts(tokens, samples, masked, samples),
    )
    return batch, Work(samples, tokens, masked, sum(length**2 for length in lengths))


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_those_of_the_model(preset: str) -> None:
    with torch.device("meta"):
        expected = sum(p.numel() for p in PretrainingModel(PRESETS[preset]).parameters())
    assert sum(parameters(PRESETS[preset]).values()) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_operations_are_what_torch_counts(shape: str) -> None:
    """In bf16, where attention on a CPU is made of plain products, which torch's counter sees one by one."""
    config = SHAPES[shape]
    weights = ObjectiveConfig(sop=float(config.pooler))
    objective = PretrainingObjective(PretrainingModel(config).bfloat16(), weights)
    batch, work = batch_of(LENGTHS, masked=29)
    with FlopCounterMode(display=False) as counter:
        objective(batch).loss.backward()
    assert sum(operations(config, work).values()) == counter.get_total_flops()


@pytest.mark.parametrize("shape", SHAPES)
def test_operations_with_recompute_are_what_torch_counts(shape: str) -> None:
    """A forward more of the layers, and none of the heads."""
    config = SHAPES[shape]
    objective = PretrainingObjective(PretrainingModel(config).bfloat16(), ObjectiveConfig(sop=float(config.pooler)))
    objective.model.encoder.recompute = True
    batch, work = batch_of(LENGTHS, masked=29)
    with FlopCounterMode(display=False) as counter:
        objective(batch).loss.backward()
    assert sum(operations(config, work).values()) + computed_again(config, work) == counter.get_total_flops()


def kept_by(encoder: Encoder, batch: MicroBatch) -> int:
    """Bytes that autograd keeps of a forward for its backward, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(batch.ids, batch.token_types, batch.packing)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_are_what_autograd_keeps(precision: str, dropout: float) -> None:
    config = dataclasses.replace(SHAPES["bert"], num_layers=6, dropout=dropout)
    encoder = Encoder(config).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    batch, work = batch_of(LENGTHS, masked=29)
    planned = sum(amount.value for amount in activations(config, work, precision, on_cpu=True).values())
    assert planned == pytest.approx(kept_by(encoder, batch), rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_are_the_inputs_of_layers_and_one_layer(precision: str) -> None:
    """What autograd keeps of a recomputed forward; and in the backward, of a layer, as a second one adds it."""
    batch, work = batch_of(LENGTHS, masked=29)

    def encoder_of(layers: int) -> Encoder:
        config = dataclasses.replace(SHAPES["bert"], num_layers=layers)
        return Encoder(config).to(torch.bfloat16 if precision == "bf16" else torch.float32)

    recomputed = encoder_of(40)
    recomputed.recompute = True
    planned = activations(recomputed.config, work, precision, on_cpu=True, recompute=True)
    entering = planned.pop("inputs of layers").value
    assert entering == pytest.approx(kept_by(recomputed, batch), rel=0.05)
    one, two = (kept_by(encoder_of(layers), batch) for layers in (1, 2))
    within = sum(amount.value for amount in planned.values())
    assert within + entering / 40 == pytest.approx(two - one, rel=0.05)


def test_the_work_of_a_run_is_the_mean_of_its_steps(shards, tmp_path) -> None:
    """Over whole epochs."""
    corpus = Corpus.opened([shards], "train", Cache(tmp_path, 10**9))
    config = DataConfig(global_batch=10, micro_tokens=4096)
    plan = Plan(corpus, config, epochs=1)
    steps = [plan.step(number) for number in range(plan.steps)]
    lengths = np.concatenate([step.lengths for step in steps])
    work = work_of(corpus, {}, corpus.samples, 3)
    assert work.tokens == pytest.approx(lengths.sum()) and work.samples == pytest.approx(len(lengths))
    assert work.squares == pytest.approx((lengths**2).sum())
    assert work.masked == pytest.approx(sum(step.counts.masked for step in steps))
