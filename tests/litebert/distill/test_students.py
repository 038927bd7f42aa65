"""What a student begins as: its teacher's layers, exactly, and nothing that has another shape."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from litebert.distill.students import begin_as, layers_of
from litebert.model.attention import Packing
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel

TEACHER = ModelConfig(
    vocab_size=50,
    hidden_size=24,
    embedding_size=24,
    num_layers=12,
    num_heads=2,
    intermediate_size=40,
    max_positions=32,
)
PACKING = Packing.of([9, 4, 12])
SECOND = torch.cat([torch.arange(9) > 5, torch.zeros(4, dtype=torch.bool), torch.arange(12) > 3])


def model(config: ModelConfig, seed: int) -> PretrainingModel:
    """With weights that are all random: biases and norms are born alike."""
    torch.manual_seed(seed)
    made = PretrainingModel(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made.eval()


def hidden(of: PretrainingModel, types: torch.Tensor | None = None) -> list[torch.Tensor]:
    ids = torch.arange(PACKING.tokens) % of.config.vocab_size
    with torch.no_grad():
        return list(of.encoder.hidden_states(ids, types, PACKING))


def same(own: PretrainingModel, name: str, other: PretrainingModel, its_name: str) -> bool:
    return torch.equal(own.get_parameter(name), other.get_parameter(its_name))


@pytest.fixture
def teacher() -> PretrainingModel:
    return model(TEACHER, 1)


@pytest.mark.parametrize(
    ("teacher_layers", "student_layers", "expected"),
    [
        (12, 6, (2, 4, 6, 8, 10, 12)),
        (12, 4, (3, 6, 9, 12)),
        (12, 12, tuple(range(1, 13))),
        (12, 5, (3, 5, 8, 10, 12)),
        (2, 4, (1, 1, 2, 2)),
    ],
)
def test_layers_are_evenly_apart_and_end_with_the_last(
    teacher_layers: int, student_layers: int, expected: tuple[int, ...]
) -> None:
    assert layers_of(teacher_layers, student_layers) == expected


def test_any_list_of_layers_will_do_that_fits() -> None:
    assert layers_of(12, 3, [12, 1, 1]) == (12, 1, 1)
    for wanted in ([1, 2], [1, 2, 13], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="name 3 layers, one for each of the student's, of the teacher's 1 to 12"):
            layers_of(12, 3, wanted)


def test_a_student_of_all_layers_is_its_teacher(teacher: PretrainingModel) -> None:
    student = model(TEACHER, 2)
    assert begin_as(student, teacher, range(1, 13)) == []
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, dict(teacher.named_parameters())[name]), name


def test_each_layer_is_the_one_that_was_named(teacher: PretrainingModel) -> None:
    """A student's layer does with what enters it what the teacher's does."""
    layers = (2, 4, 6, 8, 10, 12)
    student = model(dataclasses.replace(TEACHER, num_layers=6, pooler=False), 2)
    assert begin_as(student, teacher, layers) == []
    enters = torch.randn(PACKING.tokens, 24)
    for number, layer in enumerate(layers):
        own, its = (m.encoder._layer(n, n, enters, PACKING) for m, n in ((student, number), (teacher, layer - 1)))
        assert torch.equal(own, its)
    assert torch.equal(student.mlm.transform(enters), teacher.mlm.transform(enters))
    assert torch.equal(hidden(student)[0], hidden(teacher)[0])


def test_without_token_types_segment_a_stays_the_teachers(teacher: PretrainingModel) -> None:
    student = model(dataclasses.replace(TEACHER, token_types=0, pooler=False), 2)
    assert begin_as(student, teacher, range(1, 13)) == []
    for own, its in zip(hidden(student), hidden(teacher, torch.zeros(PACKING.tokens, dtype=torch.int64)), strict=True):
        torch.testing.assert_close(own, its, rtol=0, atol=1e-4)
    own, its = hidden(student)[0], hidden(teacher, SECOND.long())[0]
    torch.testing.assert_close(own[~SECOND], its[~SECOND], rtol=0, atol=1e-5)
    assert (own[SECOND] - its[SECOND]).abs().max() > 0.1


def test_layers_that_share_begin_as_the_first_of_theirs(teacher: PretrainingModel) -> None:
    groups = model(dataclasses.replace(TEACHER, num_layers=6, sharing="all", num_groups=2), 2)
    begin_as(groups, teacher, (2, 4, 6, 8, 10, 12))
    assert same(groups, "encoder.attention.0.qkv.weight", teacher, "encoder.attention.1.qkv.weight")
    assert same(groups, "encoder.attention.1.qkv.weight", teacher, "encoder.attention.7.qkv.weight")
    attention = model(dataclasses.replace(TEACHER, num_layers=3, sharing="attention"), 2)
    begin_as(attention, teacher, (5, 6, 7))
    assert same(attention, "encoder.attention.0.out.weight", teacher, "encoder.attention.4.out.weight")
    assert same(attention, "encoder.ffn.2.up.weight", teacher, "encoder.ffn.6.up.weight")


def test_an_albert_can_teach_layers_that_do_not_share() -> None:
    shared = model(dataclasses.replace(TEACHER, sharing="all"), 1)
    student = model(dataclasses.replace(TEACHER, num_layers=2), 2)
    assert begin_as(student, shared, (6, 12)) == []
    for block in range(2):
        assert same(student, f"encoder.ffn.{block}.down.weight", shared, "encoder.ffn.0.down.weight")


def test_what_has_another_shape_stays_random_and_is_named(teacher: PretrainingModel) -> None:
    config = dataclasses.replace(TEACHER, num_layers=6, embedding_size=8, intermediate_size=48)
    student, untouched = model(config, 2), model(config, 2)
    left = begin_as(student, teacher, (2, 4, 6, 8, 10, 12))
    assert left == [
        "feed-forward",
        "masked-word head",
        "norm of embeddings",
        "positions",
        "projection of embeddings",
        "token types",
        "words",
    ]
    before = dict(untouched.named_parameters())
    as_before = {name.split(".")[1] for name, own in student.named_parameters() if torch.equal(own, before[name])}
    assert as_before == {"embeddings", "ffn", "dense", "norm", "bias"}  # the last three of the masked-word head
    assert same(student, "encoder.attention.5.norm.weight", teacher, "encoder.attention.11.norm.weight")
    other_heads = model(dataclasses.replace(TEACHER, num_heads=4), 2)
    assert begin_as(other_heads, teacher, range(1, 13)) == ["attention"]


def test_positions_are_as_many_as_both_have(teacher: PretrainingModel) -> None:
    short, long = (model(dataclasses.replace(TEACHER, max_positions=most), 2) for most in (20, 48))
    rest = long.encoder.embeddings.position.weight[32:].clone()
    for student in (short, long):
        assert begin_as(student, teacher, range(1, 13)) == []
    its = teacher.encoder.embeddings.position.weight
    assert torch.equal(short.encoder.embeddings.position.weight, its[:20])
    assert torch.equal(long.encoder.embeddings.position.weight, torch.cat([its, rest]))
