"""The README's format is enough: a reader made from it alone, with numpy.load, reads the same samples."""

import hashlib
import io
import json
import re
import tarfile
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

import data_tools
from data_tools.shards import manifest
from data_tools.shards.reader import ShardReader

README = (Path(data_tools.__file__).parent / "README.md").read_text(encoding="utf-8")


def read_block(path, begin, end):
    """The members of a block by name, from its bytes alone."""
    with path.open("rb") as stream:
        stream.seek(begin)
        data = stream.read(end - begin)
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            ((key, member),) = re.findall(r"^(\d{5}-\d{5})\.([a-z]+(?:\.\d+)?)\.npy$", info.name)
            content = data[info.offset_data : info.offset_data + info.size]
            members[member] = np.load(io.BytesIO(content), allow_pickle=False)
    return key, members, zlib.crc32(data)


def samples_of(members, copy):
    """Each sample as the README takes it apart."""
    words = [byte >> (7 - bit) & 1 for byte in members["words"].tolist() for bit in range(8)]
    token = masked = 0
    for row, length in enumerate(members["lengths"].tolist()):
        count = int(members[f"counts.{copy}"][row])
        first = int(members["first"][row])
        ids = members["ids"][token : token + length].tolist()
        yield {
            "a": ids[1 : 1 + first],
            "b": None if members["order"][row] == -1 else ids[first + 2 : -1],
            "specials": [ids[0], ids[first + 1], ids[-1]],
            "words": words[token : token + length],
            "order": int(members["order"][row]),
            "document": int(members["document"][row]),
            "number": int(members["number"][row]),
            "source": int(members["source"][row]),
            "positions": members[f"positions.{copy}"][masked : masked + count].tolist(),
            "inputs": members[f"inputs.{copy}"][masked : masked + count].tolist(),
        }
        token, masked = token + length, masked + count
    assert token == len(members["ids"]) and masked == len(members[f"inputs.{copy}"])


def samples_by_the_library(folder, shard, block, copy):
    data = ShardReader(folder, shard).read(block, copy)
    tokens, masked = np.cumsum(data.samples.lengths)[:-1], np.cumsum(data.masks.counts)[:-1]
    ids, words = np.split(data.samples.ids, tokens), np.split(data.samples.words.astype(int), tokens)
    positions, inputs = np.split(data.masks.positions, masked), np.split(data.masks.inputs, masked)
    for row in range(len(data.samples)):
        of, first, order = ids[row].tolist(), int(data.samples.first[row]), int(data.samples.order[row])
        yield {
            "a": of[1 : 1 + first],
            "b": of[first + 2 : -1] if order >= 0 else None,
            "specials": [of[0], of[first + 1], of[-1]],
            "words": words[row].tolist(),
            "order": order,
            "document": int(data.samples.documents[row]),
            "number": int(data.samples.numbers[row]),
            "source": int(data.samples.sources[row]),
            "positions": positions[row].tolist(),
            "inputs": inputs[row].tolist(),
        }


def key_of_sample(document, number):
    """By the README, on Python's integers."""
    low = 2**64 - 1
    z = document + (number + 1) * 0x9E3779B97F4A7C15 & low
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & low
    z = (z ^ z >> 27) * 0x94D049BB133111EB & low
    return z ^ z >> 31


def test_a_reader_made_from_the_readme_reads_the_same_samples(shards, tokenizer):
    text = (shards / "manifest.json").read_text(encoding="utf-8")
    described = json.loads(text)
    found = manifest.Manifest.load(shards)
    assert hashlib.sha256(text.encode()).hexdigest() == found.fingerprint
    specials = (tokenizer.vocabulary.cls, tokenizer.vocabulary.sep, tokenizer.vocabulary.sep)
    for split, entry in described["splits"].items():
        lengths, paired, counts, sources = [], [], [], []
        keys: list[int] = []
        unigram = np.zeros(described["vocab_size"], np.int64)
        for shard, known in zip(entry["shards"], found.splits[split].shards, strict=True):
            path = shards / shard["name"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
            assert path.stat().st_size == shard["bytes"]
            for block, (begin, end) in enumerate(pairwise(shard["offsets"])):
                key, members, checksum = read_block(path, begin, end)
                assert checksum == shard["checksums"][block]
                assert key == f"{shard['name'][-9:-4]}-{block:05d}"
                samples = list(samples_of(members, 0))
                assert samples == list(samples_by_the_library(shards, known, block, 0))
                assert len(samples) == shard["samples"][block]
                for sample in samples:
                    assert (*sample["specials"],) == specials
                    unigram += np.bincount(sample["a"] + (sample["b"] or []), minlength=len(unigram))
                lengths += members["lengths"].tolist()
                counts += members["counts.0"].tolist()
                paired += (members["order"] >= 0).tolist()
                sources += members["source"].tolist()
                keys += map(key_of_sample, members["document"].tolist(), members["number"].tolist())
        index = {
            "lengths": lengths,
            "counts": [counts],
            "paired": paired,
            "sources": sources,
            "keys": keys,
            "unigram": unigram.tolist(),
        }
        assert index.keys() == entry["index"].keys()
        for name, expected in index.items():
            path = shards / f"{split}.{name}.npy"
            assert np.load(path, allow_pickle=False).tolist() == expected
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["index"][name]
        assert (len(lengths), sum(lengths), sum(paired), [sum(counts)]) == (
            entry["samples"], entry["tokens"], entry["pairs"], entry["masked"],
        )  # fmt: skip
    kept = sum(entry["documents"] for entry in described["splits"].values())
    assert described["documents_read"] == kept + sum(described["rejected"].values())


def test_the_build_is_identified_as_the_readme_says(shards):
    described = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))
    fields = {name: described[name] for name in ("format", "inputs", "tokenizer", "segmenter", "config")}
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == described["build"]


def test_the_readme_names_every_member_and_field(shards):
    described = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))
    assert f"The format, version {described['format']}\n" in README and described["format"] == manifest.FORMAT
    _, members, _ = read_block(shards / "train-00000.tar", *described["splits"]["train"]["shards"][0]["offsets"][:2])
    shards_section = README.partition("### Shards")[2].partition("### manifest.json")[0]
    rows = re.findall(r"^\| `([a-z.]+)` \| (u?int\d+|same as `ids`)", shards_section, re.MULTILINE)
    assert [name.replace(".c", ".0") for name, _ in rows] == list(members)
    for name, dtype in rows:
        assert members[name.replace(".c", ".0")].dtype == (dtype if "int" in dtype else members["ids"].dtype)
    fields = README.partition("### manifest.json")[2].partition("### Index")[0]
    shard = described["splits"]["train"]["shards"][0]
    for field in (*described.keys() - {"splits"}, *described["splits"]["train"], *shard):
        assert re.search(rf"`(splits\.X\.)?{field}(\[\])?`", fields), field


def test_the_index_is_of_the_types_that_the_readme_says(shards):
    for name, dtype, dimensions in (
        ("lengths", "<u2", 1),
        ("counts", "<u2", 2),
        ("paired", "|b1", 1),
        ("sources", "<u2", 1),
        ("keys", "<u8", 1),
        ("unigram", "<i8", 1),
    ):
        with (shards / f"train.{name}.npy").open("rb") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)
            shape, fortran, found = np.lib.format.read_array_header_1_0(stream)
        assert (len(shape), fortran, found.str) == (dimensions, False, dtype)
