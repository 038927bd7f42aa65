"""Distillation as a task of a run: teachers, the student that begins as one of them, and what it learns."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from data_tools.text.huggingface import load_tokenizer
from litebert.data.corpus import Corpus
from litebert.distill.config import DistillConfig
from litebert.distill.objective import DistillationObjective
from litebert.distill.sources import Live
from litebert.distill.states import Wanted
from litebert.distill.students import begin_as, layers_of
from litebert.distill.teacher import Teacher
from litebert.model.heads import PretrainingModel
from litebert.plan.work import Work, operations
from litebert.recipe import Command
from litebert.train.initial import initial_model
from litebert.train.session import Task
from litebert.train.world import World

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def distillation(command: Command, corpus: Corpus, world: World) -> Task:
    """The recipe's model learns from the teachers of the command line, which run in this process.

    Where there are several, it begins as layers of the first. Raises ValueError where teachers, data and recipe do not
    fit together.
    """
    recipe, soft = command.recipe, command.recipe.distill
    assert soft is not None
    with corpus.splits[0].tokenizer() as folder:
        pieces = load_tokenizer(folder).pieces
    teachers = [Teacher.load(path, pieces) for path in command.teachers]
    for teacher in teachers:
        if (most := teacher.model.config.max_positions) < corpus.seq_length:
            raise ValueError(
                f"{teacher.location} takes {most} tokens, the data's longest samples have {corpus.seq_length}: build "
                f"them with pairs.seq_length {most}"
            )
    first, shape = teachers[0].model.config, recipe.model_config(corpus.vocab_size)
    layers = layers_of(first.num_layers, shape.num_layers, soft.layers)
    compared = compared_layers(soft, layers, first.num_layers)
    begun = _begun(initial_model(recipe, corpus), teachers[0], layers, world) if soft.start == "teacher" else {}
    wanted = Wanted.of(soft, [its for _, its in compared], pairs=soft.sop > 0)
    source = Live([each.to(world.device, DTYPES[soft.precision]) for each in teachers], wanted, soft.temperature)

    def objective() -> DistillationObjective:
        student = initial_model(recipe, corpus)  # it seeds what is drawn next, the projection
        student.load_state_dict({**student.state_dict(), **begun})
        return DistillationObjective(student, source, soft, recipe.objective, compared, first.hidden_size)

    def computed(work: Work) -> float:
        if soft.ce_at == "all":
            work = dataclasses.replace(work, masked=work.tokens)
        forward = sum(sum(operations(each.model.config, work).values()) / 3 for each in teachers)
        return forward + sum(operations(shape, work).values())

    return Task(objective, computed, {"teacher": _together(teachers)})


def _begun(student: PretrainingModel, teacher: Teacher, layers: Sequence[int], world: World) -> dict[str, Tensor]:
    """The weights that a student begins with; rank 0 says which of them are not the teacher's."""
    left = begin_as(student, teacher.model, layers)
    if world.leads:
        copied = f"layers {', '.join(map(str, layers))} of {teacher.location}"
        print(
            f"student begins as {copied}" + f"; random, for the shapes differ: {', '.join(left)}" * bool(left),
            flush=True,
        )
    return student.state_dict()


def compared_layers(config: DistillConfig, layers: tuple[int, ...], teacher_layers: int) -> tuple[tuple[int, int], ...]:
    """Layers of student and teacher whose hidden states the losses compare, numbered from 1."""
    if not (config.cos or config.hidden):
        return ()
    if config.map == "last":
        return ((len(layers), teacher_layers),)
    return tuple(enumerate(layers, start=1))


def _together(teachers: list[Teacher]) -> str:
    """The fingerprint of one teacher, or of several in their order."""
    one, *others = (teacher.fingerprint for teacher in teachers)
    return hashlib.sha256(" ".join([one, *others]).encode()).hexdigest() if others else one
