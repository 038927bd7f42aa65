"""Near duplicates: what datatrove's own pipeline finds with the same sketches, and what the similarity says."""

import itertools
import json
import lzma
from typing import Any

import numpy as np
import pytest

from data_tools.dedup.config import DedupConfig
from data_tools.dedup.ngrams import units
from data_tools.documents.document import Document
from data_tools.documents.files import find_files
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.text.normalization import canonical_paragraphs
from data_tools.work import Work
from tests.data_tools.dedup import corpora
from tests.data_tools.dedup.corpora import edited, grams, jaccard, outcome, random_text, run, shared

CONFIG = DedupConfig(exact=False, near=True, bands=8, rows=4)


def made_up(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    texts = [random_text(rng, int(length)) for length in rng.integers(30, 200, 60)]
    copies = [
        edited(texts[n], rng, share) for n, share in zip(rng.integers(60, size=90), rng.random(90) * 0.15, strict=True)
    ]
    return [(texts + copies)[n] for n in rng.permutation(150)]


@pytest.fixture(scope="module")
def real() -> list[str]:
    """Short documents of the shared sample, near duplicates among them."""
    path = shared("corpus/sample.jsonl.xz")
    if not path.exists():
        pytest.skip(f"no {path}")
    with lzma.open(path, "rt", encoding="utf-8") as stream:
        texts = [canonical_paragraphs(json.loads(line)["text"]) for line in stream]
    return [text for text in texts if 20 < len(text) < 500][:700]


def clusters_of(found: dict[int, tuple[str, ...]]) -> dict[int, int]:
    return {number: int(one[1]) for number, one in found.items() if one[0] == "near duplicate"}


def datatrove_clusters(texts: list[str], config: DedupConfig, folder, monkeypatch) -> dict[int, int]:
    """Each document that is not the first of its cluster, and the first, by datatrove's steps on naive sketches."""
    minhash: Any = pytest.importorskip("datatrove.pipeline.dedup.minhash")
    data, hashing = pytest.importorskip("datatrove.data"), pytest.importorskip("datatrove.utils.hashing")
    monkeypatch.setattr(minhash, "load_word_tokenizer", lambda language: None)

    class Signature(minhash.MinhashDedupSignature):
        def get_shingles(self, text):
            return np.concatenate(
                [np.zeros(0, np.uint64), *(hashes for hashes, _ in units([text]).ngrams(config.ngram))]
            )

        def get_signature(self, shingles):
            minima = [
                number << 52 | value
                for number, value in corpora.sketch(set(shingles.tolist()), config.bands * config.rows)
            ]
            return [minima[begin : begin + config.rows] for begin in range(0, len(minima), config.rows)]

    settings = minhash.MinhashConfig(
        num_buckets=config.bands, hashes_per_bucket=config.rows, hash_config=hashing.HashConfig(hash_fc="sha1")
    )
    parts = np.array_split(np.arange(len(texts)), 3)
    names = ["signatures", "buckets", "clusters"]
    signatures, buckets, clusters = (str(folder / name) for name in names)
    for rank, part in enumerate(parts):
        Signature(signatures, settings).run([data.Document(texts[n], str(n)) for n in part], rank, len(parts))
    for rank in range(config.bands):
        minhash.MinhashDedupBuckets(signatures, buckets, config=settings).run(None, rank, config.bands)
    minhash.MinhashDedupCluster(buckets, clusters, settings, save_cluster_id=True).run(None, 0, 1)
    members: dict[int, list[int]] = {}
    for rank, part in enumerate(parts):
        path = folder / "clusters" / f"{rank:06d}.clusters"
        records = np.fromfile(path, np.uint32) if path.exists() else np.zeros(0, np.uint32)
        for row, cluster in records.reshape(-1, 2):
            members.setdefault(int(cluster), []).append(int(part[row]))
    return {number: min(cluster) for cluster in members.values() for number in cluster if number != min(cluster)}


@pytest.mark.parametrize("per_part", [13, 1000])
def test_clusters_are_datatroves(per_part, tmp_path, monkeypatch):
    texts = made_up(per_part)
    expected = datatrove_clusters(texts, CONFIG, tmp_path, monkeypatch)
    found = clusters_of(outcome(run(Work(tmp_path / "work"), texts, per_part, CONFIG)))
    assert found == dict(sorted(expected.items()))
    assert 40 < len(found) < 90


@pytest.mark.slow
def test_clusters_of_real_text_are_datatroves(real, tmp_path, monkeypatch):
    config = DedupConfig(exact=False, near=True)
    expected = datatrove_clusters(real, config, tmp_path, monkeypatch)
    found = clusters_of(outcome(run(Work(tmp_path / "work"), real, 100, config)))
    assert found == dict(sorted(expected.items()))
    assert found


def test_what_is_dropped_is_similar_and_what_is_kept_is_not(tmp_path):
    """Against the Jaccard similarity of every pair: none is linked far below the threshold, none missed far above."""
    texts = made_up(1)
    sets = [grams(text, 5) for text in texts]
    similar = {
        (a, b): jaccard(sets[a], sets[b]) for a, b in itertools.combinations(range(len(texts)), 2) if sets[a] & sets[b]
    }
    config = DedupConfig(exact=False, near=True)
    found = clusters_of(outcome(run(Work(tmp_path / "work"), texts, 40, config)))
    kept = set(range(len(texts))) - set(found)
    missed = [pair for pair, share in similar.items() if share > 0.92 and kept.issuperset(pair)]
    assert not missed and sum(share > 0.92 for share in similar.values()) > 5
    of_cluster: dict[int, set[int]] = {}
    for number, first in found.items():
        of_cluster.setdefault(first, {first}).add(number)
    for cluster in of_cluster.values():
        for number in cluster:
            assert max(similar.get((min(a, number), max(a, number)), 0) for a in cluster - {number}) > 0.45


def test_the_first_of_a_cluster_is_kept_whatever_the_parts(tmp_path):
    texts = made_up(2)
    found = [outcome(run(Work(tmp_path / str(size)), texts, size, DedupConfig(near=True))) for size in (20, 47, 150)]
    assert found[0] == found[1] == found[2]
    assert {one[0] for one in found[0].values() if len(one) == 2} <= {"duplicate", "near duplicate"}
    assert all(len(found[0][int(one[1])]) == 1 for one in found[0].values() if one[0] == "near duplicate")


def test_line_breaks_and_marks_make_no_difference(tmp_path):
    text = random_text(np.random.default_rng(0), 200)
    found = outcome(run(Work(tmp_path), [text, text.replace("。", "！\n"), "短"], 1, DedupConfig(near=True)))
    assert list(found.values()) == [(text,), ("near duplicate", "0"), ("短",)]


def test_shared_copies_are_found(tmp_path):
    folder = shared("messy/exact_dup_pairs")
    if not folder.exists():
        pytest.skip(f"no {folder}")
    files = find_files([folder])
    config = ReaderConfig(plain_text="file")
    texts = [canonical_paragraphs(one.text) for one in read_documents(files, config) if isinstance(one, Document)]
    found = outcome(run(Work(tmp_path), texts, 3, DedupConfig()))
    names = [file.name.partition("__")[0] for file in files]
    assert [one[0] == "duplicate" for one in found.values()] == [name in names[:n] for n, name in enumerate(names)]
