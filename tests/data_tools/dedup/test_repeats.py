"""Copies found in ranges of keys are those of one dictionary, wherever ranges, batches and parts end."""

from collections import defaultdict

import numpy as np
import pytest

from data_tools.dedup import clusters, repeats
from data_tools.dedup.clusters import joined
from data_tools.dedup.config import DedupConfig
from data_tools.dedup.corpus import Corpus
from data_tools.dedup.repeats import Repeats
from data_tools.work import Work
from tests.data_tools.dedup.corpora import outcome, random_text, run


def with_copies(rng: np.random.Generator, different: int, size: int) -> list[str]:
    texts = [random_text(rng, int(length)) for length in rng.integers(12, 120, different)]
    return [texts[min(rng.integers(different, size=3))] for _ in range(size)]


@pytest.fixture(params=[(1 << 22, 1 << 20), (100, 20), (40, 1)], ids=str)
def bounds(request, monkeypatch):
    monkeypatch.setattr(repeats, "_RANGE_KEYS", request.param[0])
    monkeypatch.setattr(repeats, "_BATCH_KEYS", request.param[1])


@pytest.mark.parametrize("per_part", [23, 1000])
def test_exact_copies_are_those_of_a_dictionary(bounds, per_part, tmp_path):
    texts = with_copies(np.random.default_rng(per_part), 60, 200)
    first: dict[str, int] = {}
    expected: dict[int, tuple[str, ...]] = {}
    for number, text in enumerate(texts):
        expected[number] = ("duplicate", str(first[text])) if text in first else (text,)
        first.setdefault(text, number)
    assert outcome(run(Work(tmp_path), texts, per_part, DedupConfig())) == expected
    assert 20 < len(first) < 100


@pytest.mark.parametrize("per_part", [23, 1000])
def test_paragraphs_are_cut_as_by_a_dictionary(bounds, per_part, tmp_path):
    rng = np.random.default_rng(per_part)
    pool = [random_text(rng, int(length)).replace("\n", "") for length in rng.integers(5, 60, 100)]
    texts = ["\n".join(pool[n] for n in rng.integers(100, size=rng.integers(1, 6))) for _ in range(150)]
    config = DedupConfig(paragraphs=True, min_paragraph=25, min_left=20)
    seen: set[str] = set()
    whole: dict[str, int] = {}
    expected: dict[int, tuple[str, ...]] = {}
    for number, text in enumerate(texts):
        if text in whole:
            expected[number] = ("duplicate", str(whole[text]))
            continue
        whole[text] = number
        left = []
        for line in text.split("\n"):
            if len(line) < 25 or line not in seen:
                left.append(line)
                seen |= {line} if len(line) >= 25 else set()
        kept = "\n".join(left)
        expected[number] = (kept,) if kept == text or len(kept) >= 20 else ("nothing new", "")
    assert outcome(run(Work(tmp_path), texts, per_part, config)) == expected
    assert {one[0] for one in expected.values() if len(one) == 2} >= {"nothing new"}
    assert any(one == (text,) for one, text in zip(expected.values(), texts, strict=True))


def test_a_range_that_one_key_fills_is_found_in_order(bounds, tmp_path):
    texts = ["同一个文档，很多次出现。"] * 300 + ["另一个文档，只有一次。"]
    found = outcome(run(Work(tmp_path), texts, 10, DedupConfig()))
    assert set(list(found.values())[1:300]) == {("duplicate", "0")}
    assert found[0] == (texts[0],) and found[300] == (texts[300],)


def test_ranges_cover_all_keys_once(bounds, tmp_path):
    work = Work(tmp_path)
    texts = with_copies(np.random.default_rng(0), 60, 200)
    run(work, texts, 30, DedupConfig())
    stage = Repeats(Corpus(work, "cleaning"), "exact", False)
    found = [repeats.read_pairs(work.path("exact", item))[0] for item in stage.items()]
    assert all((np.diff(part.astype(np.int64)) > 0).all() for part in found)
    assert len(np.concatenate(found)) == 200 - len(set(texts))


@pytest.mark.parametrize("batch", [1 << 21, 5])
def test_clusters_are_connected_components(batch, monkeypatch):
    monkeypatch.setattr(clusters, "_BATCH_PAIRS", batch)
    rng = np.random.default_rng(batch)
    for edges in (0, 1, 50, 200, 400):
        left, right = rng.integers(0, 300, (2, edges)).astype(np.uint64) << np.uint64(20)
        near: dict[int, set[int]] = defaultdict(set)
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            near[a].add(b)
            near[b].add(a)
        expected = {}
        for start in sorted(near):
            reached, border = set(), [start]
            while border:
                node = border.pop()
                if node not in reached:
                    reached.add(node)
                    border += near[node]
            if min(reached) != start:
                expected[start] = min(reached)
        others, smallest = joined(left, right)
        assert dict(zip(others.tolist(), smallest.tolist(), strict=True)) == expected
        assert others.tolist() == sorted(expected)


def test_a_long_chain_is_one_cluster():
    nodes = np.random.default_rng(0).permutation(5000).astype(np.uint64)
    others, smallest = joined(nodes[:-1], nodes[1:])
    assert others.tolist() == list(range(1, 5000)) and not smallest.any()


def test_nothing_asked_leaves_everything(tmp_path):
    texts = ["一样的文档"] * 5
    assert outcome(run(Work(tmp_path), texts, 2, DedupConfig(exact=False))) == {
        n: (text,) for n, text in enumerate(texts)
    }


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"bands": 0, "ngram": 1}, "bands 0 is not positive; ngram 1 is less than 2"),
        ({"bands": 100, "rows": 100}, "bands 100 x rows 100 are more than 1024 minima"),
        ({"min_left": 60}, "min_left 60 is more than min_paragraph 50"),
    ],
)
def test_a_wrong_config_is_told(wrong, told):
    with pytest.raises(ValueError, match=f"^{told}$"):
        DedupConfig(**wrong)
