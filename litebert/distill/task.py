"""Distillation as a task of a run: teachers, the student that begins as one of them, and what it learns."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from torch import Tensor

from data_tools.text.huggingface import load_tokenizer
from litebert.data.corpus import Corpus
from litebert.distill.addresses import read_token
from litebert.distill.codecs import CodecConfig
from litebert.distill.config import DistillConfig
from litebert.distill.fleet import Fleet
from litebert.distill.kept import SoftData
from litebert.distill.objective import DistillationObjective
from litebert.distill.sources import Live, Source, Stored, check_supply
from litebert.distill.states import Wanted
from litebert.distill.students import begin_as, layers_of
from litebert.distill.teacher import DTYPES, Teacher
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel
from litebert.plan.work import Work, operations
from litebert.recipe import Command
from litebert.train.initial import initial_model
from litebert.train.session import Task, cache_of
from litebert.train.world import World

EXACT = "exact"  # answers that lose nothing but a rounding to 16 bits


def distillation(command: Command, corpus: Corpus, world: World) -> Task:
    """The recipe's model learns from the teachers of the command line, which run in this process, or from what one
    has answered before; then a teacher is only what it begins as.

    Where there are several, it begins as layers of the first. Raises ValueError where teachers, answers, data and
    recipe do not fit together.
    """
    recipe, soft = command.recipe, command.recipe.distill
    assert soft is not None
    with corpus.splits[0].tokenizer() as folder:
        pieces = load_tokenizer(folder).pieces
    teachers = [Teacher.load(path, pieces) for path in command.teachers]
    for teacher in teachers:
        teacher.check_length(corpus.seq_length)
    stored = _kept(command, corpus, world)
    if stored:
        _check_stored(stored, command, teachers, corpus)
    first = stored.first.taught.model if stored else teachers[0].model.config
    shape = recipe.model_config(corpus.vocab_size)
    layers = layers_of(first.num_layers, shape.num_layers, soft.layers)
    compared = compared_layers(soft, layers, first.num_layers)
    begun = _begun(initial_model(recipe, corpus), teachers[0], layers, world) if soft.start == "teacher" else {}
    source: Source
    if stored:
        head = stored.first.head(world.device, DTYPES[soft.precision])
        source = Stored(stored.first.codec, head, first.num_layers)
    else:
        wanted = Wanted.of(soft, [its for _, its in compared], pairs=soft.sop > 0)
        source = Live([each.to(world.device, DTYPES[soft.precision]) for each in teachers], wanted, soft.temperature)

    def objective() -> DistillationObjective:
        student = initial_model(recipe, corpus)  # it seeds what is drawn next, the projection
        student.load_state_dict({**student.state_dict(), **begun})
        return DistillationObjective(student, source, soft, recipe.objective, compared, first.hidden_size)

    def computed(work: Work) -> float:
        if soft.ce_at == "all":
            work = dataclasses.replace(work, masked=work.tokens)
        asked = () if stored else teachers
        forward = sum(_operations(each.model.config, work, soft.ce > 0) / 3 for each in asked)
        return forward + _operations(shape, work, soft.ce > 0 or recipe.objective.mlm > 0)

    if not stored:
        held = _held_to(soft.precision, CodecConfig("hidden"))
        return Task(objective, computed, {"teacher": _together(teachers), **held})
    if world.leads:
        print(f"soft targets are read: {stored}", flush=True)
    taught = stored.first.taught
    fingerprints = {"teacher": taught.teacher, **_held_to(taught.precision, taught.codec, taught.seed)}
    return Task(objective, computed, fingerprints, stored.beside, stored.figures)


def _operations(config: ModelConfig, work: Work, words: bool) -> float:
    """Of a step, with or without the masked-word head."""
    parts = operations(config, work)
    return sum(parts.values()) - (0.0 if words else parts["masked-word head"])


def _kept(command: Command, corpus: Corpus, world: World) -> SoftData | None:
    """What the command line names of answers that come with the data, the same for every rank."""
    soft = command.recipe.distill
    assert soft is not None
    if command.soft:
        return SoftData.stored(command.soft, corpus, cache_of(command.recipe))
    if not command.fleet:
        return None
    token = read_token(command.token_file) if command.token_file else ""
    roots = command.tls_roots.read_text() if command.tls_roots else ""
    says = f"rank {world.rank}: " if world.size > 1 else ""
    fleet = Fleet(command.fleet, token, roots, soft.patience, lambda line: print(f"{says}{line}", flush=True))
    kept = SoftData.sent(fleet, corpus)
    taught = kept.first.taught
    if len(found := set(world.control.gather(f"{taught} ({taught.answered[:12]})"))) > 1:
        raise ValueError(
            f"{fleet}: ranks found teachers that answer differently, {' and '.join(sorted(found))}: "
            "let one kind of them serve"
        )
    return kept


def _held_to(precision: str, codec: CodecConfig, seed: int = 0) -> dict[str, str]:
    """What a run is held to of its answers: a codec that keeps all may be changed for another such, or for the teacher
    itself, but not the precision that a teacher computes in, nor the seed where words are drawn."""
    held = {"answers": EXACT, "answers.precision": precision}
    if codec.kind not in ("hidden", "head") or codec.bits != 16:
        held["answers"] = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(codec).items())
    if codec.kind == "sampled":
        held["answers.seed"] = str(seed)
    return held


def _check_stored(stored: SoftData, command: Command, teachers: Sequence[Teacher], corpus: Corpus) -> None:
    """Raises ValueError where stored answers are not all that the recipe's run needs, or of another teacher."""
    recipe, taught = command.recipe, stored.first.taught
    assert recipe.distill is not None
    check_supply(stored.first.codec, recipe.distill)
    stored.check_plan(corpus, recipe.data, recipe.train.steps)
    if recipe.distill.start == "teacher" and not teachers:
        raise ValueError(
            "distill.start teacher copies layers of the teacher: give it as --teacher as well, or set it to random"
        )
    if [each.fingerprint for each in teachers] not in ([], [taught.teacher]):
        raise ValueError(
            f"{stored.first.location} has the answers of teacher {taught.teacher[:12]}, and --teacher "
            f"{' '.join(map(str, command.teachers))} is {_together(list(teachers))[:12]}: give the one that answered"
        )


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
