"""Evaluation text is found by its n-grams as a search for the strings finds it."""

import json
import lzma

import numpy as np
import pytest

from data_tools.dedup.config import DecontaminationConfig, DedupConfig
from data_tools.dedup.contamination import unread_evaluation
from data_tools.work import Work
from tests.data_tools.dedup.corpora import grams, outcome, random_text, run, words_and_characters


def config(files, **options) -> DedupConfig:
    return DedupConfig(evaluation=DecontaminationConfig(files=list(map(str, files)), **options))


@pytest.fixture
def examined(tmp_path) -> tuple[list, list[str]]:
    """Evaluation files of three forms, and their texts."""
    rng = np.random.default_rng(0)
    texts = [random_text(rng, int(length)).replace("\n", "") for length in rng.integers(5, 80, 40)]
    folder = tmp_path / "evaluation"
    folder.mkdir()
    pairs = [{"text_a": a, "text_b": b, "label": "0"} for a, b in zip(texts[:10], texts[10:20], strict=True)]
    with lzma.open(folder / "test.jsonl.xz", "wt") as stream:
        stream.writelines(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    rows = "".join(f"{n}\t{text}\n" for n, text in enumerate(texts[20:30]))
    (folder / "dev.tsv").write_text("label\tsentence\n" + rows)
    (folder / "other.txt").write_text("\n\n".join(texts[30:]))
    return sorted(folder.iterdir()), texts


def corpus(texts: list[str]) -> list[str]:
    """Documents of three paragraphs, in some of which a stretch of an evaluation text stands."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(120):
        paragraphs = [random_text(rng, 60).replace("\n", "") for _ in range(3)]
        if rng.random() < 0.6:
            text = texts[rng.integers(len(texts))]
            begin = int(rng.integers(0, max(1, len(text) - 12)))
            paragraphs[1] += text[begin : begin + int(rng.integers(2, 30))] + paragraphs[0][:5]
        made.append("\n".join(paragraphs))
    return made


@pytest.mark.parametrize("drop", ["document", "paragraph"])
@pytest.mark.parametrize(("min_ngrams", "min_share"), [(1, 0.0), (4, 0.0), (1, 0.03)])
def test_what_is_found_is_what_a_naive_search_finds(drop, min_ngrams, min_share, examined, tmp_path):
    files, examination = examined
    # A record's fields are one text, a field below the other.
    together = [f"{a}\n{b}" for a, b in zip(examination[:10], examination[10:20], strict=True)] + examination[20:]
    known = set().union(*(grams(text, 8) for text in together))

    def is_known(text: str) -> bool:
        units = words_and_characters(text)
        found = [tuple(units[n : n + 8]) in known for n in range(len(units) - 7)]
        return sum(found) >= max(min_ngrams, min_share * len(found))

    texts = corpus(examination)
    expected: dict[int, tuple[str, ...]] = {}
    for number, text in enumerate(texts):
        if drop == "document":
            expected[number] = ("evaluation text", "") if is_known(text) else (text,)
        else:
            expected[number] = ("\n".join(line for line in text.split("\n") if not is_known(line)),)
    options = {"ngram": 8, "min_ngrams": min_ngrams, "min_share": min_share, "drop": drop}
    assert outcome(run(Work(tmp_path / "work"), texts, 7, config(files, **options))) == expected
    changed = sum(one != (text,) for one, text in zip(expected.values(), texts, strict=True))
    assert 10 < changed < 100


def test_a_document_of_evaluation_text_alone_goes_and_is_no_original(examined, tmp_path):
    files, examination = examined
    long = max(examination[20:], key=len)
    texts = [long, "开头。" + long, long, "别的文档，和考试没有关系。"]
    found = outcome(run(Work(tmp_path / "work"), texts, 2, config(files, ngram=8)))
    assert list(found.values()) == [("evaluation text", "")] * 2 + [("duplicate", "0"), (texts[3],)]
    dropped = outcome(run(Work(tmp_path / "other"), texts, 2, config(files, ngram=8, drop="document")))
    assert list(dropped.values()) == [("evaluation text", "")] * 3 + [(texts[3],)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"label": "1"}\n', "no text in field .* choose with --dedup.evaluation.text_field"),
        ('{"text": "太短"}\n', "no text of 16 characters or words.* choose a smaller --dedup.evaluation.ngram"),
    ],
)
def test_an_evaluation_file_without_text_is_told(content, told, tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=told):
        run(Work(tmp_path / "work"), ["一个文档"], 1, config([path]))


def test_a_record_that_is_no_text_ends_the_build_or_is_told(examined, tmp_path):
    files, examination = examined
    info = tmp_path / "info.json"
    info.write_text('{"task": "afqmc", "sizes": {"train": 3}}')
    texts = corpus(examination)
    with pytest.raises(ValueError, match=r"info.json.*\(--dedup.evaluation.unreadable reject goes on without it\)"):
        run(Work(tmp_path / "stopped"), texts, 7, config([*files, info], ngram=8))
    work = Work(tmp_path / "work")
    found = outcome(run(work, texts, 7, config([*files, info], ngram=8, unreadable="reject")))
    assert found == outcome(run(Work(tmp_path / "other"), texts, 7, config(files, ngram=8)))
    (told,) = unread_evaluation(work)
    assert "info.json" in told and "no text in field" in told


def test_a_wrong_config_is_told():
    with pytest.raises(
        ValueError, match=r"^text_field 'a,' .*; ngram 1 .*; min_ngrams 0 .*; min_share 2 .*; drop 'all'"
    ):
        DecontaminationConfig(text_field="a,", ngram=1, min_ngrams=0, min_share=2, drop="all")  # type: ignore[arg-type]
