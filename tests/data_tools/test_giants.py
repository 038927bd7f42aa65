"""Documents larger than what is in memory as arrays at a time: nothing of them is lost, nothing is there twice."""

import numpy as np
import pytest

from data_tools.build import build
from data_tools.documents import filters
from data_tools.documents.filters import repeated_grams
from data_tools.stages import merging
from data_tools.text.pieces import pieces
from data_tools.text.sentences import code_points


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "text", ["一二\n三四五\n六", "一二三。四五六七八九十", "ab cd ef gh", "一" * 20, "", "\n一\n\n"]
)
@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_pieces_are_the_text_but_for_line_feeds(text, limit):
    found = list(pieces(text, limit))
    assert max(map(len, found)) <= limit
    assert "".join(found).replace("\n", "") == text.replace("\n", "")
    assert len(text) > limit or found == [text]


def test_repetition_of_a_giant_is_that_of_all_its_runs(monkeypatch):
    rng = np.random.default_rng(0)
    text = "".join(map(chr, rng.integers(0x4E00, 0x9000, 30_000)))
    text += text[:10_000]
    grams = [text[n : n + 8] for n in range(len(text) - 7)]
    exact = 1 - len(set(grams)) / len(grams)
    assert repeated_grams(code_points(text)) == pytest.approx(exact, abs=1e-9)
    monkeypatch.setattr(filters, "_COMPARED_GRAMS", 4096)
    assert repeated_grams(code_points(text)) == pytest.approx(exact, abs=0.03)


def test_merged_runs_give_the_same_shards(tmp_path, corpus, tokenizer_folder, build_config, shards, monkeypatch):
    monkeypatch.setattr("data_tools.build.PART_CHARACTERS", 20_000)
    groups = []

    class Merging(merging.Merging):
        def items(self):
            groups.append(super().items())
            return groups[-1]

    monkeypatch.setattr("data_tools.build.Merging", lambda work, sampled: Merging(work, sampled, fan_in=4))
    build([corpus], tokenizer_folder, tmp_path / "out", build_config)
    assert len(groups[-1]) > 2
    assert contents(tmp_path / "out") == contents(shards)
