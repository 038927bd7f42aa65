"""From files to shards: the same bytes from any number of workers, read by stock tools, refused when wrong."""

import dataclasses
import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from transformers import AutoTokenizer

from data_tools.build import BuildConfig, build
from data_tools.documents.clean import CleanConfig, clean
from data_tools.documents.files import inspect
from data_tools.documents.reader_config import ReaderConfig
from data_tools.samples.masks import MaskConfig, mask
from data_tools.samples.pairs import PairConfig
from data_tools.samples.preparation import split_of
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from data_tools.text.normalization import canonical_paragraphs
from data_tools.text.tokenizer import CLS, SEP, Tokenizer
from data_tools.text.training import TokenizerConfig, train
from data_tools.text.words import WordsConfig
from data_tools.verification import verify
from data_tools.work import locked, work_folder

_SAMPLE = "shared/corpus/sample.jsonl.xz"
SAMPLE = next((found for folder in Path(__file__).parents if (found := folder / _SAMPLE).exists()), Path(_SAMPLE))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def all_blocks(folder, split, copy=0):
    manifest = Manifest.load(folder)
    for shard in manifest.splits[split].shards:
        reader = ShardReader(folder, shard)
        for number in range(len(shard.samples)):
            yield reader.read(number, copy)


def test_one_and_two_workers_give_the_same_bytes(shards, corpus, tokenizer_folder, build_config, tmp_path, monkeypatch):
    monkeypatch.setattr("data_tools.build.PART_CHARACTERS", 20_000)  # several batches, cut elsewhere
    build([corpus], tokenizer_folder, tmp_path / "two", build_config, workers=2)
    assert contents(tmp_path / "two") == contents(shards)


def test_stock_tar_and_webdataset_read_the_shards(shards):
    manifest = Manifest.load(shards)
    for shard in manifest.splits["train"].shards:
        listed = subprocess.run(["tar", "-tf", shards / shard.name], capture_output=True, text=True, check=True)
        with tarfile.open(shards / shard.name) as archive:
            assert listed.stdout.split() == archive.getnames()
    paths = [str(shards / shard.name) for shard in manifest.splits["train"].shards]
    read = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    ours = list(all_blocks(shards, "train"))
    assert len(read) == len(ours) == sum(len(shard.samples) for shard in manifest.splits["train"].shards)
    for theirs, block in zip(read, ours, strict=True):
        assert np.array_equal(theirs["ids.npy"], block.samples.ids)
        assert np.array_equal(theirs["positions.0.npy"], block.masks.positions)
        assert np.array_equal(theirs["order.npy"], block.samples.order)


def documents_of(folder, split):
    """The documents of a split, put together again from its samples: ids."""
    documents: dict[int, dict[int, list[int]]] = {}
    for block in all_blocks(folder, split):
        samples, end = block.samples, 0
        columns = zip(samples.lengths, samples.first, samples.order, samples.documents, samples.numbers, strict=True)
        for length, first, order, document, number in columns:
            ids = samples.ids[end : end + length].tolist()
            end += length
            a, b = ids[1 : 1 + first], ids[2 + first : -1]
            documents.setdefault(document, {})[number] = b + a if order == 1 else a + b
    return sorted([token for _, part in sorted(parts.items()) for token in part] for parts in documents.values())


def test_every_document_is_there_whole_on_one_side(shards, texts, build_config):
    """The stretches of each split are the documents of that split, tokenized by the exported tokenizer."""
    fast = AutoTokenizer.from_pretrained(shards / "tokenizer", local_files_only=True)
    for split in ("train", "heldout"):
        expected = []
        for text in texts:
            kept = len(canonical_paragraphs(text)) >= build_config.filter.min_characters
            if kept and split_of(canonical_paragraphs(text), 0.1, build_config.seed) == split:
                expected.append(fast(text, add_special_tokens=False)["input_ids"])
        assert documents_of(shards, split) == sorted(expected)


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no real text at {SAMPLE}")
def test_real_text_has_the_ids_of_the_exported_tokenizer(tmp_path):
    """Every kept document of a real corpus, once clean: HTML, markdown, roff, traditional characters."""
    with lzma.open(SAMPLE) as stream:
        lines = stream.read().splitlines(keepends=True)[::8]
    (tmp_path / "real.jsonl").write_bytes(b"".join(lines))
    texts = [clean(json.loads(line)["text"], CleanConfig()) for line in lines]
    save_tokenizer(Tokenizer(train(texts, TokenizerConfig(vocab_size=5000)), "test"), tmp_path / "tokenizer")
    build([tmp_path / "real.jsonl"], tmp_path / "tokenizer", tmp_path / "shards", BuildConfig())
    fast = AutoTokenizer.from_pretrained(tmp_path / "shards" / "tokenizer", local_files_only=True)
    found = documents_of(tmp_path / "shards", "train") + documents_of(tmp_path / "shards", "heldout")
    raw = {tuple(fast(text, add_special_tokens=False)["input_ids"]) for text in texts}
    assert len(found) > 350 and all(tuple(ids) in raw for ids in found)


def test_manifest_counts_what_is_there(shards, texts):
    manifest = Manifest.load(shards)
    kept = sum(entry.documents for entry in manifest.splits.values())
    assert manifest.documents_read == len(texts) == kept + sum(manifest.rejected.values())
    for split, entry in manifest.splits.items():
        blocks = list(all_blocks(shards, split))
        ids = np.concatenate([block.samples.ids for block in blocks])
        assert entry.samples == sum(len(block.samples) for block in blocks)
        assert entry.tokens == len(ids) and entry.masked == [sum(int(b.masks.counts.sum()) for b in blocks)]
        unigram = np.bincount(ids, minlength=manifest.vocab_size)
        unigram[[CLS, SEP]] = 0
        assert np.array_equal(np.load(shards / f"{split}.unigram.npy"), unigram)
        lengths = np.concatenate([block.samples.lengths for block in blocks])
        assert np.array_equal(np.load(shards / f"{split}.lengths.npy"), lengths)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"masks": MaskConfig("span", copies=2, frequency_smoothing=0.7)},
        {"masks": MaskConfig("ngram"), "words": WordsConfig("none")},
        {"masks": MaskConfig("token"), "pairs": PairConfig(64, objective="nsp", pack=True)},
        {"words": WordsConfig(dictionaries=["mine.txt"])},
    ],
    ids=["smoothed spans", "n-grams of pieces", "packed NSP", "dictionary"],
)
def test_masks_of_the_stored_samples_are_the_stored_masks(
    corpus, texts, tokenizer_folder, build_config, tmp_path, monkeypatch, changes, workers
):
    """From what shards and manifest hold, and from any number of workers; labels are ids that a model can meet."""
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("学生喜欢\n", encoding="utf-8")
    config = dataclasses.replace(build_config, **changes)
    manifest = build([corpus], tokenizer_folder, tmp_path / "shards", config, workers)
    assert ("mine.txt" in manifest.segmenter) == bool(config.words.dictionaries)
    counts = np.load(tmp_path / "shards" / "train.unigram.npy")
    vocabulary = load_tokenizer(tmp_path / "shards" / "tokenizer").vocabulary
    masks = MaskConfig(**manifest.config["masks"])
    fast = AutoTokenizer.from_pretrained(tmp_path / "shards" / "tokenizer", local_files_only=True)
    occurring = {token for text in texts for token in fast(text, add_special_tokens=False)["input_ids"]}
    digest = hashlib.sha256()
    for split in ("train", "heldout"):
        for copy in range(masks.copies):
            for block in all_blocks(tmp_path / "shards", split, copy):
                again = mask(block.samples, masks, vocabulary, manifest.config["seed"], copy, counts)
                assert np.array_equal(again.positions, block.masks.positions)
                assert np.array_equal(again.inputs, block.masks.inputs)
                assert np.array_equal(again.counts, block.masks.counts)
                begins = np.cumsum(block.samples.lengths) - block.samples.lengths
                labels = block.samples.ids[np.repeat(begins, again.counts) + again.positions]
                assert occurring.issuperset(labels.tolist())
                digest.update(again.positions.tobytes())
    pieces = np.concatenate([block.samples.words for block in all_blocks(tmp_path / "shards", "train", 0)])
    assert pieces.all() == (config.words.segmenter == "none")
    _DIGESTS.setdefault(repr(changes), digest.hexdigest())
    assert _DIGESTS[repr(changes)] == digest.hexdigest()


_DIGESTS: dict[str, str] = {}


def test_samples_are_shuffled_over_the_corpus(shards):
    """A shard's order has nothing to do with the documents': neighbours are of one document no more than by chance."""
    documents = np.concatenate([block.samples.documents for block in all_blocks(shards, "train")])
    _, counts = np.unique(documents, return_counts=True)
    by_chance = (counts * (counts - 1)).sum() / len(documents)
    neighbours = (documents[1:] == documents[:-1]).sum()
    assert abs(neighbours - by_chance) < 5 * np.sqrt(by_chance)


def test_build_again_finds_it_done_and_another_is_refused(shards, corpus, tokenizer_folder, build_config):
    before = contents(shards)
    build([corpus], tokenizer_folder, shards, build_config)
    with pytest.raises(ValueError, match="holds shards of other text, config or tokenizer"):
        build([corpus], tokenizer_folder, shards, dataclasses.replace(build_config, seed=2))
    assert contents(shards) == before


def test_verify_names_what_is_damaged(shards, corpus, tokenizer_folder, build_config, tmp_path):
    folder = tmp_path / "shards"
    build([corpus], tokenizer_folder, folder, build_config)
    assert "whole" in verify(folder)
    damaged = folder / "train-00000.tar"
    data = bytearray(damaged.read_bytes())
    data[Manifest.load(folder).splits["train"].shards[0].offsets[1] + 600] ^= 1
    damaged.write_bytes(data)
    (folder / "heldout.counts.npy").unlink()
    with pytest.raises(ValueError, match=r"heldout.counts.npy: missing.*train-00000.tar: its SHA-256"):
        verify(folder)
    reader = ShardReader(folder, Manifest.load(folder).splits["train"].shards[0])
    reader.read(0, 0)
    with pytest.raises(ValueError, match=r"train-00000.tar, block 00000-00001 at byte \d+: damaged"):
        reader.read(1, 0)


def test_every_record_is_kept_or_rejected_and_the_rejects_are_kept(corpus, tokenizer_folder, build_config, tmp_path):
    """Whatever lies in a folder beside the corpus: read = kept + rejected, from one worker as from two."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(corpus, folder / "a.jsonl")
    (folder / "b.jsonl").write_bytes(b'{"text": "\xe4\xb8\xad\xff"}\n{"text"\n{"body": 1}\n')
    (folder / "c.txt").write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "d.txt").write_text("English only, and nothing else at all.", encoding="utf-8")
    config = dataclasses.replace(build_config, reader=ReaderConfig(unreadable="reject"))
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        build([folder], tokenizer_folder, out, config, workers, tmp_path / f"rejects{workers}.jsonl")
    assert contents(tmp_path / "out1") == contents(tmp_path / "out2")
    lines = (tmp_path / "rejects1.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == (tmp_path / "rejects2.jsonl").read_text(encoding="utf-8").splitlines()
    manifest = Manifest.load(tmp_path / "out1")
    kept = sum(entry.documents for entry in manifest.splits.values())
    assert manifest.documents_read == 405 == kept + sum(manifest.rejected.values())
    assert manifest.broken_bytes == 1
    records = [json.loads(line) for line in lines]
    assert Counter(record["reason"] for record in records) == Counter(manifest.rejected)
    named = {(Path(record.get("file", "")).name, record.get("place"), record["reason"]) for record in records}
    assert named >= {
        ("b.jsonl", "b.jsonl:1", "broken bytes"),
        ("b.jsonl", "line 2", "unreadable"),
        ("b.jsonl", "line 3", "unreadable"),
        ("c.txt", "", "not text"),
    }
    assert [record["text"] for record in records if record["reason"] == "not Chinese"] == [
        "English only, and nothing else at all."
    ]
    with pytest.raises(ValueError, match="is already built; for its rejects"):
        build([folder], tokenizer_folder, tmp_path / "out1", config, 1, tmp_path / "none.jsonl")


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "data_tools", *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no Chinese text"),
        ("English text only, and nothing else at all.\n" * 50, "rejected: 50 not Chinese"),
        ("这是一篇没有空行的文章。\n" * 50, "a plain text file is one document unless blank lines part it"),
    ],
)
def test_text_that_will_not_do_is_one_line_and_nothing_is_left(tmp_path, tokenizer_folder, text, message):
    (tmp_path / "x.txt").write_text(text.replace("all.\n", "all.\n\n"), encoding="utf-8")
    result = run("build", "--input", tmp_path / "x.txt", "--tokenizer", tokenizer_folder, "--output", tmp_path / "out")
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks.ratio", "0.2"], "masks.ratio"),
        (["--masks.rate", "2"], "rate 2.0 is not between 0 and 1, both excluded"),
        (["--masks.strategy", "letter"], "strategy"),
        (["--pairs.objective", "rop"], "objective"),
        (["--words.segmenter", "none", "--words.dictionaries", "[x.txt]"], "have no effect"),
        (["--words.dictionaries", "[nowhere.txt]"], "words.dictionaries: nowhere.txt cannot be read"),
        (["--workers", "0"], "at least one"),
        (["--masks.copies", "1001"], "copies 1001 are more than 1000"),
        (["--tasks", "4"], "--tasks 4 is for --executor slurm"),
        (["--rejects", "nowhere/x.jsonl"], "there is no folder nowhere"),
        (["--rejects", "."], "is a folder"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, corpus, tokenizer_folder, arguments, message):
    result = run("build", "--input", corpus, "--tokenizer", tokenizer_folder, "--output", tmp_path / "out", *arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_line_makes_a_tokenizer_and_does_not_overwrite_it(tmp_path, corpus):
    arguments = ("tokenizer", "--input", corpus, "--output", tmp_path / "tokenizer", "--vocab-size", 300)
    assert run(*arguments).returncode == 0
    first = Tokenizer.load(tmp_path / "tokenizer").fingerprint
    again = run(*arguments)
    assert again.returncode == 2 and "exists" in again.stderr
    assert Tokenizer.load(tmp_path / "tokenizer").fingerprint == first
    small = tmp_path / "small.jsonl"
    small.write_text(json.dumps({"text": "中国人民解放军进行曲"}), encoding="utf-8")
    little = run("tokenizer", "--input", small, "--output", tmp_path / "other", "--vocab-size", 300)
    assert little.returncode == 2 and "too little for 300 pieces" in little.stderr
    narrow = run("tokenizer", "--input", corpus, "--output", tmp_path / "other", "--vocab-size", 20)
    assert narrow.returncode == 2 and "20 pieces are too few for the text" in narrow.stderr


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("masks: null", "masks is empty"),
        ("dedup: {evaluation: null}", "dedup.evaluation is empty"),
        ("pairs: [1]", "pairs is [1], not keys with values"),
        ("masks: {rate: 0.1", "is not valid YAML"),
        ("seed: 1\nmasks: {rate: 0.1, rate: 0.2}", "'rate' is there twice"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_it(tmp_path, corpus, tokenizer_folder, recipe, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    inputs = ("--input", corpus, "--tokenizer", tokenizer_folder, "--output", tmp_path / "out")
    result = run("build", *inputs, "--config", path)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert message in result.stderr and str(path) in result.stderr


def test_rejects_never_take_the_place_of_another_file(corpus, tokenizer_folder, build_config, tmp_path, monkeypatch):
    mine = tmp_path / "mine.jsonl"
    shutil.copy(corpus, mine)
    before = mine.read_bytes()
    for inputs in ([mine], [corpus]):
        with pytest.raises(ValueError, match=r"mine.jsonl exists; remove it, or give another file"):
            build(inputs, tokenizer_folder, tmp_path / "out", build_config, rejects=mine)
    rejects = tmp_path / "rejects.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("data_tools.build.publish", lambda *_: 1 / 0)  # killed with the rejects just written
        with pytest.raises(ZeroDivisionError):
            build([corpus], tokenizer_folder, tmp_path / "out", build_config, rejects=rejects)
    written = rejects.read_bytes()
    first = build([corpus], tokenizer_folder, tmp_path / "out", build_config, rejects=rejects)
    assert build([corpus], tokenizer_folder, tmp_path / "out", build_config, rejects=rejects) == first
    assert rejects.read_bytes() == written and len(written.splitlines()) == sum(first.rejected.values()) > 0
    with pytest.raises(ValueError, match=r"already built, and --rejects .*mine.jsonl exists but does not hold its"):
        build([corpus], tokenizer_folder, tmp_path / "out", build_config, rejects=mine)
    assert mine.read_bytes() == before


def test_what_is_written_into_the_input_is_refused(corpus, tokenizer_folder, build_config, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(corpus, folder)
    with pytest.raises(ValueError, match=r"--output .*sh is within .*in; give a place outside"):
        build([folder], tokenizer_folder, folder / "sh", build_config)
    with pytest.raises(ValueError, match=r"--rejects .*r.jsonl is within"):
        build([tmp_path / "i*"], tokenizer_folder, tmp_path / "out", build_config, rejects=folder / "r.jsonl")
    assert [path.name for path in folder.iterdir()] == [corpus.name]


def test_of_two_builds_of_one_output_the_second_is_refused(corpus, tokenizer_folder, build_config, tmp_path):
    with (
        locked(work_folder(tmp_path / "out", "0" * 64)),
        pytest.raises(ValueError, match=r"another build is at work in .*0000.partial; wait for it, or stop it"),
    ):
        build([corpus], tokenizer_folder, tmp_path / "out", build_config)
    build([corpus], tokenizer_folder, tmp_path / "out", build_config)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("form", ["plain", "xz", "parquet", "broken", "gone"])
def test_input_that_changes_during_a_build_is_told(
    corpus, texts, tokenizer_folder, build_config, tmp_path, monkeypatch, form
):
    """After it was hashed, before it is read; also where what is there now cannot be read and that is let pass."""
    path = tmp_path / f"mine.{form}"
    lines = corpus.read_bytes()

    def write(lines: bytes) -> None:
        if form == "parquet":
            pq.write_table(pa.table({"text": [json.loads(line)["text"] for line in lines.splitlines()]}), path)
        else:
            path.write_bytes(lzma.compress(lines) if form in ("xz", "broken") else lines)

    def inspected(*arguments):
        found = inspect(*arguments)
        if form == "gone":
            path.unlink()
        elif form == "broken":
            path.write_bytes(path.read_bytes()[:-100])
        else:
            write(lines[: lines.index(b"\n") + 1])
        return found

    config = dataclasses.replace(build_config, reader=ReaderConfig(unreadable="reject"))
    write(lines)
    with monkeypatch.context() as patch:
        patch.setattr("data_tools.build.inspect", inspected)
        with pytest.raises(ValueError, match=rf"mine.{form}: (changed while it was read|cannot be opened any more)"):
            build([path], tokenizer_folder, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()
    write(lines)
    assert build([path], tokenizer_folder, tmp_path / "out", config).documents_read == len(texts)
