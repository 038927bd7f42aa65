"""What a teacher answered is read back for the very tokens it was asked of, whatever the order, copy or batch."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Callable
from copy import deepcopy
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
from litebert.distill.sources import Stored
from litebert.distill.states import Wanted
from litebert.distill.stored import SoftFolder
from litebert.distill.targets import Dense
from litebert.distill.teacher import Teacher
from litebert.model.heads import PretrainingModel
from litebert.objectives import ObjectiveConfig
from tests.litebert.distill.conftest import CODECS
from tests.server import served

CPU = torch.device("cpu")
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


def elsewhere(manifest: dict) -> None:
    entry = manifest["splits"]["train"][0]
    for named in (entry, *entry["copies"]):
        named["name"] = f"../outside/{entry['name']}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda of: of["splits"]["train"].pop(), "lists nothing of 0 blocks where the shards of train want train-000"),
        (lambda of: of["splits"]["train"].reverse(), "where the shards of train want train-00000.soft.tar of"),
        (lambda of: of["splits"].pop("heldout"), r"its sidecars are of train, its copies of heldout, train"),
        (lambda of: of["copies"].pop("heldout"), "its sidecars are of heldout, train, its copies of train"),
        (lambda of: of["splits"]["train"][0]["copies"].pop(), "what it says of 'train-00000.soft.tar' does not fit"),
        (lambda of: of["splits"]["train"][0]["copies"][1]["offsets"].pop(), "'train-00000.soft.tar' does not fit"),
        (lambda of: of["splits"]["train"][0]["copies"][1]["checksums"].pop(), "'train-00000.soft.tar' does not fit"),
        (lambda of: of["splits"]["train"][0]["copies"][0]["offsets"].reverse(), "'train-00000.soft.tar' does not fit"),
        (lambda of: of["splits"]["train"][0].update(copies=[]), "'train-00000.soft.tar' does not fit"),
        (lambda of: of["splits"]["train"][0]["copies"][0].update(positions=None), "not a manifest of soft targets"),
        (elsewhere, "what it says of '../outside/train-00000.soft.tar' does not fit together"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    two_copies: Path, taught: dict[str, Path], tmp_path: Path, change: Callable[[dict], object], said: str
) -> None:
    """Whatever it names is there, also outside."""
    folder = tmp_path / "soft"
    shutil.copytree(taught["head"], folder)
    shutil.copytree(taught["head"], tmp_path / "outside")
    fields = json.loads((folder / "manifest.json").read_bytes())
    change(fields)
    (folder / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"^{folder}/manifest\.json is .*{said}") as caught:
        SoftFolder(folder).beside(Split(two_copies, "train"))
    assert "\n" not in str(caught.value)


@every_codec
def test_answers_that_are_no_numbers_are_refused(two_copies: Path, teacher: Teacher, name: str) -> None:
    """As of a teacher whose numbers run over on the way, with weights that are all finite."""
    block, model = Split(two_copies, "train").columns(0, 0), deepcopy(teacher.model)
    of = answering(dataclasses.replace(teacher, model=model), name)
    of.answers(block, 0)
    with torch.no_grad():
        for part in ("weight", "bias"):
            model.encoder.get_parameter(f"ffn.0.norm.{part}")[3] = 3e38
    with pytest.raises(ValueError, match=r"is not finite in torch\.float32, or not in the 16 bits of codec ") as caught:
        of.answers(block, 0)
    assert str(caught.value).startswith(str(teacher.location)) and "\n" not in str(caught.value)


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


@pytest.mark.parametrize(
    ("codec", "temperature", "called"),
    [
        (CodecConfig("head"), 2.0, "kl"),
        (CodecConfig("hidden", 8), 1.0, "kl"),
        (CodecConfig("topk", k=20), 1.0, "topk_kl"),
        (CodecConfig("topk", k=20, temperature=2.0), 2.0, None),
        (CodecConfig("sampled", draws=20), 1.0, "sampled_kl"),
    ],
)
def test_only_the_whole_divergence_is_called_kl(
    two_copies: Path, teacher: Teacher, codec: CodecConfig, temperature: float, called: str | None
) -> None:
    """And targets of one temperature say nothing at another."""
    of = codec_of(codec, teacher.model.config)
    block = Split(two_copies, "heldout").columns(0, 0)
    told = dataclasses.replace(block, soft=Answering(teacher, of).answers(block, 0))
    counts = Counts(int(block.lengths.sum()), len(block), int(block.counts.sum()), 0)
    torch.manual_seed(8)
    student, losses = PretrainingModel(teacher.model.config), DistillConfig(cos=0.0, temperature=temperature)
    source, hard = Stored(of, TeacherHead.of(teacher.model), 4), ObjectiveConfig(sop=0.0)
    objective = DistillationObjective(student, source, losses, hard, (), 24).eval()
    batch = micro_batch(told, np.arange(len(block)), counts)
    values = objective(batch).values
    assert float(values["ce"]) > 0.1
    assert {name for name in values if "kl" in name} == ({called} if called else set())
    if not called:
        return
    if temperature == 1:
        assert float(values[called]) == pytest.approx(float(values["ce"]), rel=1e-6)
    logs, its = (
        model(batch.ids, batch.token_types, batch.packing, batch.masked).mlm_logits_MV.detach().double().log_softmax(-1)
        for model in (student.eval(), teacher.model)
    )
    share = float(values[called]) / (float((its.exp() * (its - logs)).sum()) / len(batch.masked))
    if called == "topk_kl":
        assert 0.1 < share < 0.9
    else:
        assert share == pytest.approx(1, abs={"kl": 1e-3, "sampled_kl": 3e-2}[called])
