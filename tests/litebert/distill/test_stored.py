"""What a teacher answered is read back for the very tokens it was asked of, whatever the order, copy or batch."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from data_tools.shards.cache import Cache
from data_tools.shards.reader import DamagedBlock
from data_tools.text.huggingface import load_tokenizer
from litebert.data.batch import Counts, MicroBatch, micro_batch
from litebert.data.columns import ranges
from litebert.data.corpus import Corpus
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.distill.answers import Answering
from litebert.distill.codecs import CodecConfig, TeacherHead, codec_of, keyed_uniforms
from litebert.distill.config import DistillConfig
from litebert.distill.kept import SoftData
from litebert.distill.objective import DistillationObjective
from litebert.distill.sources import Stored, check_supply
from litebert.distill.states import Wanted
from litebert.distill.stored import SoftFolder
from litebert.distill.targets import Dense
from litebert.distill.task import distillation
from litebert.distill.teacher import Teacher
from litebert.model.heads import PretrainingModel
from litebert.objectives import ObjectiveConfig
from litebert.recipe import parse_command
from litebert.train.world import Channel, World
from tests.litebert.distill.conftest import CODECS
from tests.server import served

CPU = torch.device("cpu")
CHANNEL = Channel(0, 1, None)
ALONE = World(0, 1, CPU, CHANNEL, CHANNEL, CHANNEL)
CONFIG = DataConfig(global_batch=60, micro_tokens=700)
SAMPLES_OF_A_BLOCK = 50
every_codec = pytest.mark.parametrize("name", CODECS)


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return Teacher.load(teacher_folder, load_tokenizer(teacher_folder).pieces)


def answering(teacher: Teacher, name: str) -> Answering:
    return Answering(teacher, codec_of(CODECS[name], teacher.model.config), seed=5)


def close(name: str, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same answers, of a batch of another shape: rounding may tip a step, or one word in many for another."""
    assert found.keys() == expected.keys()
    for column, rows in expected.items():
        own = found[column]
        assert own.dtype == rows.dtype and own.shape == rows.shape
        if not rows.dtype.is_floating_point:
            apart = (own.long() - rows.long()).abs()
            assert (apart > (1 if rows.dtype == torch.int8 else 0)).double().mean() < 2e-3, (name, column)
        else:
            torch.testing.assert_close(own, rows, rtol=3e-3, atol=3e-3)


def asked(of: Answering, batch: MicroBatch, uniforms: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What the teacher says of a micro-batch that comes as it is."""
    hidden = of.teacher.read(batch, Wanted()).words_RH
    return of.codec.encode(TeacherHead.of(of.teacher.model), hidden, uniforms)


@every_codec
def test_a_row_for_each_masked_token_of_each_block_in_order(
    two_copies: Path, taught: dict[str, Path], teacher: Teacher, name: str
) -> None:
    """By tarfile and numpy alone, beside the teacher that is asked sample by sample."""
    manifest = json.loads((taught[name] / "manifest.json").read_bytes())
    of, split = answering(teacher, name), Split(two_copies, "train")
    sidecar, first = manifest["splits"]["train"][1], list(split.shards.values())[1].start
    assert sidecar["name"] == "train-00001.soft.tar" and manifest["copies"] == {"train": [0, 1], "heldout": [0]}
    for copy in (0, 1):
        columns, blocks = split.columns(first + 2, copy), sidecar["copies"][copy]
        begin, end = blocks["offsets"][2], blocks["offsets"][3]
        content = (taught[name] / sidecar["name"]).read_bytes()[begin:end]
        assert zlib.crc32(content) == blocks["checksums"][2]
        stored = {}
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for info in archive:
                key, column, number, suffix = info.name.split(".")
                assert (key, number, suffix) == ("00001-00002", str(copy), "npy")
                member = archive.extractfile(info)
                assert member is not None
                stored[column] = torch.from_numpy(np.load(io.BytesIO(member.read()), allow_pickle=False))
        parts = []
        for row in range(len(columns)):
            tokens = ranges(columns.masks_begin[[row]], columns.counts[[row]])
            uniforms = None
            if name == "sampled":
                keys = np.repeat(columns.keys[[row]], columns.counts[row])
                uniforms = keyed_uniforms(5, keys, copy, columns.positions[tokens])
            one = micro_batch(columns, np.array([row]), Counts(0, 0, 0, 0))
            parts.append(asked(of, one, uniforms))
        close(name, stored, {column: torch.cat([part[column] for part in parts]) for column in stored})


@every_codec
def test_whoever_answers_a_block_the_bits_are_the_same(
    two_copies: Path, taught: dict[str, Path], teacher: Teacher, name: str
) -> None:
    """What the files say, and what the teacher says now; as rows, and as targets."""
    of, folder = answering(teacher, name), SoftFolder(taught[name])
    split = folder.beside(Split(two_copies, "train"))
    block = split.columns(9, 1)
    rows = np.arange(len(block))
    batch = micro_batch(block, rows, Counts(0, 0, 0, 0))
    now = of.answers(dataclasses.replace(block, soft={}), 1)
    assert now.keys() == block.soft.keys()
    for column, values in now.items():
        assert values.dtype == block.soft[column].dtype and np.array_equal(values, block.soft[column])
    live = dataclasses.replace(batch, soft=micro_batch(dataclasses.replace(block, soft=now), rows, batch.counts).soft)
    head = folder.head(CPU, torch.float32)
    told = Stored(folder.codec, head, 4)(batch).words
    heard = Stored(of.codec, TeacherHead.of(teacher.model), 4)(live).words
    for one, other in zip(vars(told).values(), vars(heard).values(), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@every_codec
def test_a_micro_batch_has_its_own_answers_in_every_epoch(
    two_copies: Path, taught: dict[str, Path], teacher: Teacher, name: str
) -> None:
    """Over the order of two epochs and the first steps of a third, beside the teacher asked there and then."""
    of = answering(teacher, name)
    split = SoftFolder(taught[name]).beside(Split(two_copies, "train"))
    an_epoch = -(-split.samples // CONFIG.global_batch)
    seen = 0
    for start in (0, an_epoch - 2, 2 * an_epoch - 2):
        for step in Loader(split, CONFIG, 0, 1, start, start + 4):
            for batch in step.micro_batches:
                assert batch.soft is not None
                expected = asked(of, batch, torch.zeros(len(batch.masked), 2))
                stored = batch.soft
                if name == "sampled":  # other draws; the rest is of the whole distribution
                    expected, stored = ({key: of[key] for key in ("best", "entropy")} for of in (expected, stored))
                close(name, stored, expected)
                seen += len(batch.masked)
    assert seen > 4000


@pytest.mark.parametrize("world_size", [1, 2])
def test_ranks_and_mixtures_read_the_same_rows(two_copies: Path, taught: dict[str, Path], world_size: int) -> None:
    """Of two folders in one batch, at any number of ranks: each label with its row."""
    corpus = Corpus.opened([two_copies, two_copies], "train")
    soft = SoftData.stored([str(taught["head"]), str(taught["head"])], corpus)
    config = dataclasses.replace(CONFIG, mixture={0: [2, 1]})
    rows = []
    for rank in range(world_size):
        for step in Loader(soft.beside(corpus), config, rank, world_size, 0, 3, object()):
            for batch in step.micro_batches:
                assert batch.soft is not None
                rows += [*zip(batch.labels.tolist(), batch.soft["rows"].tolist(), strict=True)]
    alone = []
    for step in Loader(soft.beside(corpus), dataclasses.replace(config, micro_tokens=9000), 0, 1, 0, 3):
        for batch in step.micro_batches:
            assert batch.soft is not None
            alone += [*zip(batch.labels.tolist(), batch.soft["rows"].tolist(), strict=True)]
    assert sorted(rows) == sorted(alone) and len(rows) > 1000


def test_bytes_are_the_codecs_and_a_tars(taught: dict[str, Path], teacher: Teacher) -> None:
    """To the last one: a header of tar and one of numpy for each member, and what fills its last record."""
    for name, folder in taught.items():
        codec = codec_of(CODECS[name], teacher.model.config)
        for sidecar in json.loads((folder / "manifest.json").read_bytes())["splits"]["train"]:
            end = 0
            for count in (count for copy in sidecar["copies"] for count in copy["positions"]):
                for column in codec.columns.values():
                    payload = 128 + count * column.dtype.itemsize * int(np.prod(column.shape))
                    end += 512 + -(-payload // 512) * 512
            assert end == sidecar["copies"][-1]["offsets"][-1]
            assert sidecar["bytes"] == (folder / sidecar["name"]).stat().st_size == -(-(end + 1024) // 10240) * 10240


def test_stock_webdataset_reads_sidecars(two_copies: Path, taught: dict[str, Path]) -> None:
    path = taught["head8"] / "heldout-00000.soft.tar"
    found = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).decode())
    split = SoftFolder(taught["head8"]).beside(Split(two_copies, "heldout"))
    assert [sample["__key__"] for sample in found] == [f"00000-{n:05d}" for n in split.shards["heldout-00000.tar"]]
    for number, sample in enumerate(found):
        assert np.array_equal(sample["rows.0.npy"], split.columns(number, 0).soft["rows"])
        assert np.array_equal(sample["scale.0.npy"], split.columns(number, 0).soft["scale"])


def test_over_http_they_are_the_same(two_copies: Path, taught: dict[str, Path], tmp_path: Path) -> None:
    with served(taught["head"]) as server:
        far = SoftFolder(server.url, Cache(tmp_path, 10**8))
        pairs = [folder.beside(Split(two_copies, "train")) for folder in (far, SoftFolder(taught["head"]))]
        steps = [list(Loader(split, CONFIG, 0, 1, 0, 2)) for split in pairs]
        for one, other in zip(*steps, strict=True):
            for own, its in zip(one.micro_batches, other.micro_batches, strict=True):
                assert own.soft is not None and its.soft is not None
                assert torch.equal(own.soft["rows"], its.soft["rows"])
        assert isinstance(far.head(CPU, torch.float32), TeacherHead)


def test_damage_is_named_or_quarantined(two_copies: Path, taught: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "soft"
    shutil.copytree(taught["head"], folder)
    path = folder / "train-00001.soft.tar"
    copies = json.loads((folder / "manifest.json").read_bytes())["splits"]["train"][1]["copies"]
    data = bytearray(path.read_bytes())
    data[copies[0]["offsets"][3] + 1000] ^= 4
    path.write_bytes(data)
    split = SoftFolder(folder).beside(Split(two_copies, "train"))
    said = rf"^{path}, block 00001-00003 at byte {copies[0]['offsets'][3]}: damaged .*; run launcher/teach.py again"
    with pytest.raises(DamagedBlock, match=said):
        list(Loader(split, CONFIG, 0, 1))
    steps = list(Loader(split, dataclasses.replace(CONFIG, corrupt="quarantine"), 0, 1))
    lost = np.sort(np.concatenate([step.quarantined for step in steps]))
    first = (list(split.shards.values())[1].start + 3) * SAMPLES_OF_A_BLOCK
    assert len(lost) and set(lost) <= set(range(first - SAMPLES_OF_A_BLOCK, first + SAMPLES_OF_A_BLOCK))
    path.unlink()
    with pytest.raises(ValueError, match=rf"^{path} is missing or cut off"):
        SoftFolder(folder)


def test_the_head_alone_gives_the_teachers_words(two_copies: Path, taught: dict[str, Path], teacher: Teacher) -> None:
    """Within what rounding to fp16 leaves."""
    folder = SoftFolder(taught["head"])
    block = folder.beside(Split(two_copies, "train")).columns(0, 0)
    batch = micro_batch(block, np.arange(len(block)), Counts(0, 0, 0, 0))
    told = Stored(folder.codec, folder.head(CPU, torch.float32), 4)(batch).words
    its = teacher.words(teacher.read(batch, Wanted()))
    assert isinstance(told, Dense)
    logs, its_logs = (each.distribution(slice(None), 1.0, torch.float64) for each in (told, its))
    kl = (its_logs.probabilities_CV * (its_logs.logs(slice_all(300, its)) - logs.logs(slice_all(300, its)))).sum(1)
    assert 0 <= float(kl.mean()) < 1e-5


def slice_all(words: int, of: Dense) -> torch.Tensor:
    return torch.arange(words).expand(len(of.rows_MD), -1)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_targets_of_one_temperature_say_nothing_at_another(
    two_copies: Path, teacher: Teacher, temperature: float
) -> None:
    codec = codec_of(CodecConfig("topk", k=20, temperature=temperature), teacher.model.config)
    block = Split(two_copies, "heldout").columns(0, 0)
    told = dataclasses.replace(block, soft=Answering(teacher, codec).answers(block, 0))
    counts = Counts(int(block.lengths.sum()), len(block), int(block.counts.sum()), 0)
    torch.manual_seed(8)
    student, losses = PretrainingModel(teacher.model.config), DistillConfig(cos=0.0, temperature=temperature)
    source, hard = Stored(codec, None, 4), ObjectiveConfig(sop=0.0)
    objective = DistillationObjective(student, source, losses, hard, (), 24).eval()
    values = objective(micro_batch(told, np.arange(len(block)), counts)).values
    assert float(values["ce"]) > 0.1 and ("kl" in values) == (temperature == 1)
    if temperature == 1:
        assert float(values["kl"]) == pytest.approx(float(values["ce"]), rel=1e-6)


SHAPE = (
    *("--model.sharing=none", "--model.num_heads=2", "--model.intermediate_size=40", "--model.max_positions=64"),
    *("--model.hidden_size=24", "--model.embedding_size=16", "--model.num_layers=2", "--train.steps=10"),
)
WORDS = ("--distill.cos=0", "--distill.start=random")


def task(shards: Path, *overrides: str) -> None:
    command = parse_command(["--data", str(shards), "--run", "RUN", *SHAPE, *overrides], "", distils=True)
    made = distillation(command, corpus := Corpus.opened([shards], "train"), ALONE)
    made.beside(corpus)


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
