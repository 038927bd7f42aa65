"""Answers, data, recipe and run belong together, or are refused in a line that says what does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.text.huggingface import load_tokenizer
from litebert.data.corpus import Corpus
from litebert.data.split import Split
from litebert.distill.codecs import codec_of
from litebert.distill.config import DistillConfig
from litebert.distill.kept import SoftData
from litebert.distill.lesson import Lesson, TeachConfig
from litebert.distill.sources import check_supply
from litebert.distill.task import distillation
from litebert.distill.teacher import Teacher
from litebert.distill.teaching import Teaching
from litebert.recipe import Recipe, parse_command
from litebert.train.run import RunFolder
from litebert.train.session import Task
from litebert.train.world import Channel, World
from tests.litebert.distill.conftest import CODECS

CPU = torch.device("cpu")
CHANNEL = Channel(0, 1, None)
ALONE = World(0, 1, CPU, CHANNEL, CHANNEL, CHANNEL)
SHAPE = (
    *("--model.sharing=none", "--model.num_heads=2", "--model.intermediate_size=40", "--model.max_positions=64"),
    *("--model.hidden_size=24", "--model.embedding_size=16", "--model.num_layers=2", "--train.steps=10"),
)
WORDS = ("--distill.cos=0", "--distill.start=random")


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher.load(teacher_folder, load_tokenizer(teacher_folder).pieces)


def task(shards: Path, *overrides: str) -> Task:
    command = parse_command(["--data", str(shards), "--run", "RUN", *SHAPE, *overrides], "", distils=True)
    made = distillation(command, corpus := Corpus.opened([shards], "train"), ALONE)
    made.beside(corpus)
    return made


def test_what_does_not_belong_together_is_refused(
    shards: Path,
    two_copies: Path,
    taught: dict[str, Path],
    teacher_folder: Path,
    opinionated: Callable[[int], Path],
    tmp_path: Path,
) -> None:
    soft = ("--soft", str(taught["head"]))
    task(two_copies, *soft, *WORDS)
    task(two_copies, *soft, "--distill.cos=0", "--teacher", str(teacher_folder))
    with pytest.raises(ValueError, match=r"has the answers of teacher .* give the one that answered"):
        task(two_copies, *soft, "--distill.cos=0", "--teacher", str(opinionated(2)))
    with pytest.raises(ValueError, match=r"distill\.start teacher copies layers of the teacher: give it as --teacher"):
        task(two_copies, *soft, "--distill.cos=0")
    with pytest.raises(ValueError, match=r"answers other train samples or masks than those of .*teach these"):
        task(shards, *soft, *WORDS)
    with pytest.raises(ValueError, match="--soft names 2 folders, --data 1"):
        task(two_copies, *soft, str(taught["head"]), *WORDS)
    with pytest.raises(ValueError, match="no finished soft targets"):
        task(two_copies, "--soft", str(tmp_path), *WORDS)
    with pytest.raises(ValueError, match=r"--teacher missing: say what is learnt from \(or --soft, or --fleet\)"):
        task(two_copies)
    copied = tmp_path / "soft"
    shutil.copytree(taught["head"], copied)
    (copied / "head.safetensors").write_bytes((taught["hidden"] / "head.safetensors").read_bytes()[:-1] + b"1")
    with pytest.raises(ValueError, match="is not the head of the teacher that was asked"):
        task(two_copies, "--soft", str(copied), *WORDS)


def test_a_run_is_held_to_all_that_changes_its_answers(
    two_copies: Path, taught: dict[str, Path], teacher_folder: Path, tmp_path: Path
) -> None:
    """Exact codecs and the teacher itself may stand in for each other, but not for those of another precision."""

    def asked(name: str, **more: Any) -> Path:
        folder = tmp_path / "-".join([name, *map(str, more.values())])
        Teaching(Lesson(two_copies, teacher_folder, CODECS[name], TeachConfig((0,), **more), CPU), folder).run()
        return folder

    def held(*source: object, temperature: float = 2.0) -> dict[str, str]:
        given = map(str, source)
        made = task(two_copies, *given, *WORDS, f"--distill.temperature={temperature}", "--data.global_batch=50")
        return dict(made.fingerprints)

    live = held("--teacher", teacher_folder)
    assert live == held("--soft", taught["head"]) == held("--soft", taught["hidden"])
    rounded = asked("head", precision="bf16")
    other = held("--soft", rounded)
    assert other == held("--teacher", teacher_folder, "--distill.precision=bf16")
    assert {name for name in live if live[name] != other[name]} == {"answers.precision"}
    RunFolder(tmp_path / "run", live, Recipe.from_dict({})).prepare(two_copies / "tokenizer")
    with pytest.raises(ValueError, match=r"is of another run: answers\.precision was fp32, now bf16; go back to that"):
        RunFolder(tmp_path / "run", other, Recipe.from_dict({})).check()

    seeds = [held("--soft", each, temperature=1.0) for each in (taught["sampled"], asked("sampled", seed=1))]
    assert [each.pop("answers.seed") for each in seeds] == ["5", "1"] and seeds[0] == seeds[1]
    corpus = Corpus.opened([two_copies, two_copies], "train")
    for name, one, two in (("seed", "sampled", "sampled-1"), ("precision", "head", "head-bf16")):
        with pytest.raises(ValueError, match=rf"{two} is of {name} .*{one} of .*: teach both alike"):
            SoftData.stored([str(taught[one]), str(tmp_path / two)], corpus)


def test_a_copy_that_the_plan_reads_must_be_there(two_copies: Path, taught: dict[str, Path], tmp_path: Path) -> None:
    copied = tmp_path / "soft"
    shutil.copytree(taught["head"], copied)
    fields = json.loads((copied / "manifest.json").read_bytes())
    fields["copies"]["train"] = [0]
    for sidecar in fields["splits"]["train"]:
        del sidecar["copies"][1:]
    (copied / "manifest.json").write_text(json.dumps(fields))
    soft = ("--soft", str(copied), *WORDS, "--data.global_batch=100")
    samples = Split(two_copies, "train").samples
    task(two_copies, *soft, f"--train.steps={samples // 100}")
    with pytest.raises(ValueError, match=r"has copies \[0\] of train, and epoch 1 of this run reads copy 1: teach it"):
        task(two_copies, *soft, f"--train.steps={samples // 100 + 1}")


@pytest.mark.parametrize(
    ("name", "losses", "said"),
    [
        ("head", {"cos": 1.0}, "distill.cos, and codec head keeps no hidden states: set it to 0, or teach with"),
        ("topk", {"hidden": 1.0, "temperature": 1.0}, "distill.hidden, and codec topk keeps no hidden states"),
        ("hidden", {"cos": 1.0, "map": "all"}, "distill.map all, and codec hidden keeps the last layer's"),
        ("hidden", {"cos": 1.0, "hidden_at": "all"}, "distill.hidden_at all, and codec hidden keeps the last layer's"),
        ("hidden", {"ce_at": "all"}, "distill.ce_at all, and codec hidden keeps masked places alone"),
        ("hidden", {"sop": 1.0}, "distill.sop, and codec hidden keeps nothing for it: set it to 0"),
        ("head", {"relation": 1.0}, "distill.relation, and codec head keeps nothing for it: set it to 0"),
        ("topk", {"temperature": 2.0}, "distill.temperature 2.0, and codec topk was kept at 1.0: set it to 1.0"),
        ("sampled", {"temperature": 3.0}, "or teach with --codec.temperature 3.0 or --codec.kind head"),
    ],
)
def test_what_a_codec_cannot_feed_is_refused(teacher: Teacher, name: str, losses: dict, said: str) -> None:
    codec = codec_of(CODECS[name], teacher.model.config)
    check_supply(codec, DistillConfig(cos=float(name == "hidden"), temperature=CODECS[name].temperature))
    with pytest.raises(ValueError) as caught:
        check_supply(codec, DistillConfig(**{"cos": 0.0, **losses}))
    assert said in str(caught.value) and "\n" not in str(caught.value)
