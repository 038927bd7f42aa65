"""A build leaves out copies and evaluation text, accounts for each, and gives the same shards however it is cut up."""

import dataclasses
import json

import numpy as np
import pytest

from data_tools.build import build
from data_tools.dedup import repeats
from data_tools.dedup.config import DecontaminationConfig, DedupConfig
from data_tools.shards.manifest import Manifest
from tests.data_tools.dedup.corpora import edited


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def copied(texts, tmp_path):
    """The corpus with exact and near copies and an evaluation text in some documents; the evaluation file."""
    rng = np.random.default_rng(0)
    made = [*texts, *texts[:30], *(edited(text, rng, 0.01) for text in texts if len(text) > 600)]
    examined = "这里是考试的题目，不可以在训练的时候看到它们。"
    made = [f"{text}\n{examined}" if number % 40 == 7 else text for number, text in enumerate(made)]
    path = tmp_path / "copied.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for number in rng.permutation(len(made)).tolist():
            stream.write(json.dumps({"id": str(number), "text": made[number]}, ensure_ascii=False) + "\n")
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"question": examined}, ensure_ascii=False) + "\n", encoding="utf-8")
    return path, test


def test_copies_and_evaluation_text_are_left_out(copied, tokenizer_folder, build_config, tmp_path, monkeypatch):
    path, test = copied
    evaluation = DecontaminationConfig(files=[str(test)], drop="document")
    dedup = DedupConfig(near=True, paragraphs=True, min_paragraph=40, evaluation=evaluation)
    config = dataclasses.replace(build_config, dedup=dedup)
    manifest = build([path], tokenizer_folder, tmp_path / "one", config, rejects=tmp_path / "rejects.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = sum(split.documents for split in manifest.splits.values())
    assert manifest.documents_read == len(lines) == kept + sum(manifest.rejected.values())
    assert manifest.rejected["evaluation text"] == sum("考试的题目" in line["text"] for line in lines)
    assert manifest.rejected["duplicate"] >= 20 and manifest.rejected["near duplicate"] >= 20
    text_of = {line["id"]: line["text"] for line in lines}
    place_of = {line["id"]: place for place, line in enumerate(lines)}
    for one in rejects:
        if "duplicate" in one["reason"]:
            assert place_of[one["detail"]] < place_of[one["id"]]
        if one["reason"] == "duplicate":
            assert text_of[one["detail"]] == text_of[one["id"]]

    monkeypatch.setattr("data_tools.build.PART_CHARACTERS", 10_000)
    monkeypatch.setattr(repeats, "_RANGE_KEYS", 200)
    assert contents(tmp_path / "one") == _built_by_two(path, tokenizer_folder, tmp_path / "two", config)


def _built_by_two(path, tokenizer_folder, output, config):
    build([path], tokenizer_folder, output, config, workers=2)
    return contents(output)


def test_another_evaluation_text_makes_other_shards(copied, tokenizer_folder, build_config, tmp_path):
    path, test = copied
    config = dataclasses.replace(build_config, dedup=DedupConfig(evaluation=DecontaminationConfig(files=[str(test)])))
    first = build([path], tokenizer_folder, tmp_path / "shards", config)
    assert Manifest.load(tmp_path / "shards").build == first.build
    test.write_text('{"question": "另一个考试的另一道题目，也不可以在训练时看到。"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="shards of other text, config or tokenizer"):
        build([path], tokenizer_folder, tmp_path / "shards", config)
