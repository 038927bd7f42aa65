"""Sources mixed by weight and held out by document; the shuffle of what is mixed is fair, and an unfair one shows."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest

from data_tools.build import BuildConfig, build
from data_tools.documents.mixture import MixConfig
from data_tools.samples.fairness import measure
from data_tools.samples.preparation import split_of
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.stages.sources import MAX_SOURCES
from data_tools.text.normalization import canonical_paragraphs

WEIGHTS = {"forum": 0.5, "wiki": 2.5, "none": 0.0}


@pytest.fixture(scope="module")
def mixed(texts, tokenizer_folder, build_config, tmp_path_factory):
    """400 documents of four sources, by turns, mixed; the folder of shards, and each text's source."""
    folder = tmp_path_factory.mktemp("mixed")
    names = ["forum", "news", "none", "wiki"]
    source_of = {text: names[number % 4] for number, text in enumerate(texts)}
    records = ({"text": text, "source": source} for text, source in source_of.items())
    (folder / "in.jsonl").write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    config = dataclasses.replace(build_config, mix=MixConfig(WEIGHTS, {"wiki": 0.4, "news": 0.0}))
    build([folder / "in.jsonl"], tokenizer_folder, folder / "out", config, rejects=folder / "rejects.jsonl")
    return folder / "out", source_of


def stretches(folder, split):
    """Every document key of a split with its source, and its ids without the special ones, in order."""
    manifest = Manifest.load(folder)
    parts: dict[int, dict[int, np.ndarray]] = {}
    sources: dict[int, str] = {}
    for shard in manifest.splits[split].shards:
        reader = ShardReader(folder, shard)
        for block in (reader.read(number, 0) for number in range(len(shard.samples))):
            samples, end = block.samples, 0
            for n, length in enumerate(samples.lengths):
                ids = samples.ids[end : end + length]
                end += length
                a, b = ids[1 : 1 + samples.first[n]], ids[2 + samples.first[n] : -1]
                key = int(samples.documents[n])
                halves = (b, a) if samples.order[n] == 1 else (a, b)
                parts.setdefault(key, {})[int(samples.numbers[n])] = np.concatenate(halves)
                assert (
                    sources.setdefault(key, manifest.sources[samples.sources[n]])
                    == manifest.sources[samples.sources[n]]
                )
    return [(sources[key], tuple(np.concatenate([of[n] for n in sorted(of)]).tolist())) for key, of in parts.items()]


def test_documents_stand_as_often_as_their_source_weighs(mixed, tokenizer, build_config):
    folder, source_of = mixed
    manifest = Manifest.load(folder)
    assert manifest.sources == ["forum", "news", "none", "wiki"]
    taken = {split: Counter(stretches(folder, split)) for split in manifest.splits}
    shares = {"wiki": 0.4, "news": 0.0}
    of_weight = {"forum": {0, 1}, "news": {1}, "none": {0}, "wiki": {2, 3}}
    seen: dict[str, list[int]] = {source: [] for source in manifest.sources}
    kept = 0
    for text, source in source_of.items():
        canonical = canonical_paragraphs(text)
        if len(canonical) < build_config.filter.min_characters:
            continue
        split = split_of(canonical, shares.get(source, 0.1), build_config.seed)
        ids = tuple(tokenizer.encode([canonical.replace("\n", " ")]).ids.tolist())
        copies = taken[split][source, ids]
        kept += copies > 0
        assert taken["heldout" if split == "train" else "train"][source, ids] == 0
        if split == "train":
            assert copies in of_weight[source]
            seen[source].append(copies)
        else:
            assert copies == (1 if WEIGHTS.get(source, 1) >= 1 else copies) and copies <= 1
    assert 0.3 < np.mean(seen["forum"]) < 0.7 and 2.3 < np.mean(seen["wiki"]) < 2.7  # of about 90 and 60
    assert sum(entry.documents for entry in manifest.splits.values()) == kept
    assert manifest.documents_read == kept + sum(manifest.rejected.values())
    rejects = [json.loads(line) for line in (folder.parent / "rejects.jsonl").read_text().splitlines()]
    left_out = Counter(record["source"] for record in rejects if record["reason"] == "mix")
    assert set(left_out) == {"forum", "none"} and left_out["none"] == 100 - sum(
        1 for record in rejects if record["source"] == "none" and record["reason"] != "mix"
    )


def test_repetitions_are_paired_and_masked_anew(mixed):
    """A document's repetitions have the same ids, keys of their own, and not the same order of segments or masks."""
    folder, _ = mixed
    manifest = Manifest.load(folder)
    documents: dict[int, list[tuple[int, bytes, int, bytes]]] = {}
    for shard in manifest.splits["train"].shards:
        reader = ShardReader(folder, shard)
        for block in (reader.read(number, 0) for number in range(len(shard.samples))):
            for n in range(len(block.samples)):
                single = block.take(np.array([n]))
                sample = int(single.samples.numbers[0]), single.samples.ids.tobytes()
                drawn = int(single.samples.order[0]), single.masks.positions.tobytes()
                documents.setdefault(int(single.samples.documents[0]), []).append((*sample, *drawn))
    repetitions: dict[bytes, list[list[tuple[int, bytes]]]] = {}
    for samples in documents.values():
        samples.sort()
        ids = np.sort(np.concatenate([np.frombuffer(ids, np.int32) for _, ids, _, _ in samples]))
        draws = [(order, positions) for _, _, order, positions in samples]
        repetitions.setdefault(ids[ids > 4].tobytes(), []).append(draws)
    long = [of_text for of_text in repetitions.values() if len(of_text) > 1 and len(of_text[0]) > 5]
    assert len(long) > 30
    for one, other, *_ in long:
        assert [order for order, _ in one] != [order for order, _ in other] or len(one) < 12
        assert [positions for _, positions in one] != [positions for _, positions in other]


def test_the_index_has_the_source_of_every_sample(mixed):
    folder, _ = mixed
    manifest = Manifest.load(folder)
    for split, entry in manifest.splits.items():
        index = np.load(folder / f"{split}.sources.npy")
        blocks = [
            ShardReader(folder, shard).read(number, 0).samples.sources
            for shard in entry.shards
            for number in range(len(shard.samples))
        ]
        assert index.dtype == np.uint16 and np.array_equal(index, np.concatenate(blocks))
        counts = np.bincount(index, minlength=len(manifest.sources))
        of_source = {name: entry.sources.get(name, {}).get("samples", 0) for name in manifest.sources}
        assert counts.tolist() == list(of_source.values())


def test_a_source_that_is_not_there_is_an_error_that_names_those_there_are(corpus, tokenizer_folder, tmp_path):
    config = BuildConfig(mix=MixConfig({"wikipedia": 2.0}, {"news": 0.1}))
    with pytest.raises(ValueError, match="no source news, wikipedia; there are made-up"):
        build([corpus], tokenizer_folder, tmp_path / "out", config)


def test_more_sources_than_numbers_are_one_error(tokenizer_folder, tmp_path):
    lines = (json.dumps({"text": "中", "source": str(number)}) for number in range(MAX_SOURCES + 1))
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=r"65,536 sources, 65,535 are the most; --reader.source_field"):
        build([tmp_path / "in.jsonl"], tokenizer_folder, tmp_path / "out", BuildConfig())


def drawn(rng, size=40_000):
    sources = rng.choice(5, size, p=[0.5, 0.3, 0.15, 0.04999, 0.00001]).astype(np.uint16)
    return sources, np.sort(rng.integers(0, 5000, size))


def test_a_fair_shuffle_measures_as_fair_and_an_unfair_one_does_not():
    rng = np.random.default_rng(0)
    sources, places = drawn(rng)
    counts = np.bincount(sources, minlength=5).tolist()
    order = rng.permutation(len(sources))
    fair = measure([(sources[order][:777], places[order][:777]), (sources[order][777:], places[order][777:])], counts)
    assert fair.windows == 40 and 0.7 < fair.sources < 1.3 and 0.7 < fair.place < 1.3 and fair.worst < 4
    nearly = (np.arange(len(order)) + rng.integers(0, 20_000, len(order))).argsort()  # a shuffle buffer of half of it
    assert measure([(sources[nearly], places[nearly])], counts).place > 5
    by_source = np.argsort(sources, kind="stable")
    assert measure([(sources[by_source], places[by_source])], counts).sources > 100


def test_shards_are_a_fair_draw(mixed):
    for entry in Manifest.load(mixed[0]).splits.values():
        assert entry.fairness["windows"] >= 10
        assert 0.3 < entry.fairness["sources"] < 2 and 0.3 < entry.fairness["place"] < 2


def test_one_source_has_no_shares_to_speak_of():
    rng = np.random.default_rng(0)
    sources, places = np.zeros(2000, np.uint16), rng.permutation(2000)
    assert "source shares" not in str(measure([(sources, places)], [2000]))
    sources[rng.permutation(2000)[:1000]] = 1
    assert "source shares" in str(measure([(sources, places)], [1000, 1000]))
