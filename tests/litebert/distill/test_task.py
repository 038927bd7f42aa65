"""Teachers, data and recipe put together: what the student begins as, and what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from data_tools.text.huggingface import save_tokenizer
from data_tools.text.tokenizer import Tokenizer
from litebert.data.corpus import Corpus
from litebert.distill.addresses import announced
from litebert.distill.config import DistillConfig
from litebert.distill.lesson import Lesson
from litebert.distill.task import compared_layers, distillation
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel
from litebert.model.huggingface import from_huggingface, save_huggingface
from litebert.plan.work import Work
from litebert.recipe import Command, parse_command
from litebert.train.initial import initial_model
from litebert.train.session import Task
from litebert.train.world import Channel, World
from tests.litebert.distill.services import serving

CHANNEL = Channel(0, 1, None)
ALONE = World(0, 1, torch.device("cpu"), CHANNEL, CHANNEL, CHANNEL)
SHAPE = ("--model.sharing=none", "--model.num_heads=2", "--model.intermediate_size=40", "--model.max_positions=64")
SAME = (*SHAPE, "--model.hidden_size=24", "--model.embedding_size=24", "--model.num_layers=2")
NARROW = (*SHAPE, "--model.hidden_size=12", "--model.embedding_size=12", "--model.num_layers=3")


def teacher(folder: Path, tokenizer: Tokenizer, seed: int, max_positions: int = 64) -> Path:
    torch.manual_seed(seed)
    model = PretrainingModel(
        ModelConfig(
            vocab_size=300,
            hidden_size=24,
            embedding_size=24,
            num_layers=4,
            num_heads=2,
            intermediate_size=40,
            max_positions=max_positions,
        )
    )
    save_huggingface(model, folder, pad_id=0, cls_id=2, sep_id=3)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture
def folders(tokenizer: Tokenizer, tmp_path: Path) -> list[Path]:
    return [teacher(tmp_path / str(seed), tokenizer, seed) for seed in (1, 2)]


def task(shards: Path, teachers: list[Path], *overrides: str) -> Task:
    command: Command = parse_command(
        ["--data", str(shards), "--run", "RUN", "--teacher", *map(str, teachers), *overrides], "", distils=True
    )
    return distillation(command, Corpus.opened([shards], "train"), ALONE)


def test_a_student_begins_with_the_weights_as_they_were_read(shards: Path, folders: list[Path], capsys) -> None:
    """However the teacher rounds them to compute with."""
    its = from_huggingface(folders[0])
    student = task(shards, folders[:1], *SAME, "--distill.precision=bf16").objective().model
    for number, layer in enumerate((1, 3)):
        for part in ("attention.{}.qkv.weight", "ffn.{}.up.weight"):
            own, other = (
                student.encoder.get_parameter(part.format(number)),
                its.encoder.get_parameter(part.format(layer)),
            )
            assert torch.equal(own, other)
    assert torch.equal(student.mlm.bias, its.mlm.bias)
    assert capsys.readouterr().out == f"student begins as layers 2, 4 of {folders[0]}\n"


def test_an_objective_is_made_alike_each_time(shards: Path, folders: list[Path], capsys) -> None:
    """Also what has the teacher's shape nowhere, the projection with it."""
    made = task(shards, folders[:1], *NARROW)
    one = {name: tensor.clone() for name, tensor in made.objective().state_dict().items()}
    torch.rand(7)
    for name, tensor in made.objective().state_dict().items():
        assert torch.equal(one[name], tensor), name
    assert one["projection.weight"].shape == (24, 12) and one["projection.weight"].std() > 0
    assert "random, for the shapes differ: attention, feed-forward, masked-word head" in capsys.readouterr().out
    other = task(shards, folders[:1], *NARROW, "--train.seed=5").objective().state_dict()
    assert not torch.equal(one["projection.weight"], other["projection.weight"])


def test_a_random_start_is_the_one_of_pretraining(shards: Path, folders: list[Path]) -> None:
    made = task(shards, folders[:1], *SAME, "--distill.start=random").objective().model
    recipe = parse_command(["--data", "D", "--run", "R", *SAME], "").recipe
    for name, tensor in initial_model(recipe, Corpus.opened([shards], "train")).state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor), name


def test_the_fingerprint_is_of_all_teachers_in_their_order(shards: Path, folders: list[Path]) -> None:
    of = {
        task(shards, teachers, *SAME, "--distill.cos=0").fingerprints["teacher"]
        for teachers in (folders, folders[::-1], folders[:1], folders[1:])
    }
    assert len(of) == 4


def test_a_teacher_too_short_for_the_data_is_refused(shards: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    short = teacher(tmp_path / "short", tokenizer, 1, max_positions=40)
    with pytest.raises(
        ValueError, match=r"takes 40 tokens, the data's longest samples have 64: .*pairs\.seq_length 40"
    ):
        task(shards, [short], *SAME)


def test_the_teachers_operations_are_counted(shards: Path, folders: list[Path]) -> None:
    work = Work(8, 400, 60, 20_000)
    one, two = (task(shards, folders[:n], *SAME, "--distill.cos=0").operations(work) for n in (1, 2))
    assert 0.3 < (two - one) / one < 0.6  # a forward of 4 layers beside both passes of 2, and another forward


def test_only_what_is_computed_is_counted(shards: Path, folders: list[Path]) -> None:
    """Words that have no weight are not: neither the teacher's without ce, nor the student's without mlm as well."""
    work, inside = Work(8, 400, 60, 20_000), ("--distill.hidden=1", "--objective.sop=0")
    whole, labelled, silent = (
        task(shards, folders[:1], *SAME, *inside, *more).operations(work)
        for more in ((), ("--distill.ce=0",), ("--distill.ce=0", "--objective.mlm=0"))
    )
    words = 2 * 60 * 24 * (24 + 300)  # forward: masked positions, a transform of 24 by 24, 300 words
    assert whole - labelled == pytest.approx(words) and labelled - silent == pytest.approx(3 * words)


class Two(Channel):
    """What the other of two ranks says is fixed."""

    def gather(self, text: str) -> list[str]:
        return [text, "teacher 0123, bf16, another codec"]


def test_ranks_that_found_different_teachers_are_refused(two_copies: Path, lesson: Lesson, tmp_path: Path) -> None:
    world = dataclasses.replace(ALONE, control=Two(0, 2, None))
    given = ["--data", str(two_copies), "--run", "RUN", "--fleet", str(tmp_path), *SAME]
    command = parse_command(given, "", distils=True)
    with serving(lesson) as served, announced(tmp_path, served.address), pytest.raises(ValueError) as caught:
        distillation(command, Corpus.opened([two_copies], "train"), world)
    own = f"teacher {lesson.taught.teacher[:12]}, fp32, CodecConfig(kind='head'"
    assert "ranks found teachers that answer differently" in str(caught.value)
    assert own in str(caught.value) and "teacher 0123, bf16, another codec" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_layers_that_are_compared() -> None:
    layers = (2, 4, 6)
    assert compared_layers(DistillConfig(map="last"), layers, 12) == ((3, 12),)
    assert compared_layers(DistillConfig(map="all"), layers, 12) == ((1, 2), (2, 4), (3, 6))
    assert compared_layers(DistillConfig(cos=0.0), layers, 12) == ()
    assert compared_layers(DistillConfig(cos=0.0, hidden=1.0), layers, 12) == ((3, 12),)
