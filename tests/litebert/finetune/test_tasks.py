"""Every format that a task may have, on samples written by hand in the form of CLUE's files."""

import bz2
import gzip
import json
import lzma
import math
import re
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from litebert.finetune.examples import Labelled, Question, Tagged
from litebert.finetune.tasks import Task
from tests.litebert.finetune.made_up import made_task

TNEWS = [
    {"label": "102", "label_desc": "news_entertainment", "sentence": "江疏影甜甜圈自拍", "keywords": "江疏影,美少女"},
    {"label": "110", "label_desc": "news_military", "sentence": "以色列大规模空袭", "keywords": ""},
]
AFQMC = [
    {"sentence1": "双十一花呗提额在哪", "sentence2": "里可以提花呗额度", "label": "0"},
    {"sentence1": "花呗可以还借呗吗", "sentence2": "借呗能用花呗还吗", "label": "1"},
]
OCNLI = [
    {"level": "medium", "sentence1": "身上裹一件大衣", "sentence2": "身上有衣服", "label": "entailment", "id": 0},
    {"level": "hard", "sentence1": "一个人", "sentence2": "两个人", "label": "contradiction", "id": 1},
    {"level": "easy", "sentence1": "下雨", "sentence2": "出门", "label": "-", "id": 2},
]
CSL = [
    {"id": 1, "abst": "为解决传统均匀FFT波束形成算法", "keyword": ["水声学", "FFT"], "label": "1"},
    {"id": 2, "abst": "本文研究了钢的强度", "keyword": ["诗歌"], "label": "0"},
]
WSC = [
    {
        "target": {"span2_index": 6, "span1_index": 0, "span1_text": "小明", "span2_text": "他"},
        "idx": 0,
        "text": "小明告诉爸爸他累了",
        "label": "true",
    },
    {
        "target": {"span2_index": 0, "span1_index": 2, "span1_text": "李华", "span2_text": "她"},
        "idx": 1,
        "text": "她和李华",
        "label": "false",
    },
]
CLUENER: list[dict[str, Any]] = [
    {
        "text": "浙商银行企业信贷部叶老桂博士，叶老桂说",
        "label": {"name": {"叶老桂": [[9, 11], [15, 17]]}, "company": {"浙商银行": [[0, 3]]}},
    },
    {"text": "今天下雨", "label": {}},
]
ANSWER = {"text": "光荣", "answer_start": 4}
CMRC = {
    "version": "v1.0",
    "data": [
        {
            "id": "DEV_0",
            "title": "战国无双3",
            "paragraphs": [
                {
                    "id": "DEV_0",
                    "context": "本作是由光荣开发的第三续作",
                    "qas": [
                        {
                            "id": "DEV_0_QUERY_0",
                            "question": "谁开发的？",
                            "answers": [ANSWER, ANSWER | {"text": "由光荣"}],
                        },
                        {
                            "id": "DEV_0_QUERY_1",
                            "question": "第几部？",
                            "answers": [{"text": "第三", "answer_start": 0}],
                        },
                    ],
                }
            ],
        }
    ],
}
CMRC_2018 = [
    {
        "context_id": "TRIAL_800",
        "context_text": "本作是由光荣开发的第三续作",
        "qas": [{"query_id": "TRIAL_800_QUERY_0", "query_text": "谁开发的？", "answers": ["光荣", "日本光荣"]}],
    }
]


def lines(records) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def task(folder: Path, content: str, name: str = "{}.json", kind: str | None = None) -> Task:
    """A task whose splits are all the same."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "dev", "test"):
        (folder / name.format(split)).write_text(content, encoding="utf-8")
    return Task.read(folder, kind)


@pytest.mark.parametrize(
    ("records", "kind", "labels", "first"),
    [
        (TNEWS, "sentence", ("102", "110"), Labelled("江疏影甜甜圈自拍", None, "102")),
        (AFQMC, "pair", ("0", "1"), Labelled("双十一花呗提额在哪", "里可以提花呗额度", "0")),
        (OCNLI, "pair", ("contradiction", "entailment"), Labelled("身上裹一件大衣", "身上有衣服", "entailment")),
        (CSL, "pair", ("0", "1"), Labelled("水声学，FFT", "为解决传统均匀FFT波束形成算法", "1")),
        (WSC, "sentence", ("false", "true"), Labelled("[小明]告诉爸爸_他_累了", None, "true")),
    ],
    ids=["tnews", "afqmc", "ocnli", "csl", "wsc"],
)
def test_clues_own_lines_of_classes(tmp_path, records, kind, labels, first):
    read = task(tmp_path / "task", lines(records))
    assert (read.kind, read.labels, read.train[0], len(read.train)) == (kind, labels, first, 2)
    assert read.train == read.dev == read.test and read.origin == "its own dev and test"


def test_the_second_mention_may_come_first(tmp_path):
    assert task(tmp_path / "task", lines(WSC)).train[1].text == "_她_和[李华]"


def test_cluener_ends_are_inclusive(tmp_path):
    read = task(tmp_path / "task", lines(CLUENER))
    entities = ((0, 4, "company"), (9, 12, "name"), (15, 18, "name"))
    assert (read.kind, read.labels) == ("tagging", ("company", "name"))
    assert read.train == [Tagged(CLUENER[0]["text"], entities), Tagged("今天下雨", ())]
    assert [read.train[0].text[start:end] for start, end, _ in entities] == ["浙商银行", "叶老桂", "叶老桂"]


@pytest.mark.parametrize("indent", [None, 2])
def test_nested_questions_are_read_from_one_document(tmp_path, indent):
    read = task(tmp_path / "task", json.dumps(CMRC, ensure_ascii=False, indent=indent))
    context = "本作是由光荣开发的第三续作"
    assert (read.kind, read.labels) == ("span", ())
    assert read.train == [
        Question("谁开发的？", context, (("光荣", 4), ("由光荣", 3))),  # the start of the second was wrong
        Question("第几部？", context, (("第三", 9),)),
    ]
    old = task(tmp_path / "old", json.dumps(CMRC_2018, ensure_ascii=False, indent=indent))
    assert old.train == [Question("谁开发的？", context, (("光荣", 4), ("日本光荣", -1)))]
    assert old.unfound == 0 and "questions of train" not in old.remark


def test_answers_that_cannot_be_learnt_are_counted(tmp_path):
    records = [{"context": "甲乙", "question": "？", "answers": answers} for answers in (["乙"], ["丙", "乙"], ["丁"])]
    read = task(tmp_path / "task", lines(records))
    assert len(read.train) == 3 and read.unfound == 2
    assert read.remark.endswith("; questions of train whose answer is not in its passage: 2, learnt as having none")


def test_plain_lines_and_tables(tmp_path):
    plain = [{"context": "甲乙丙", "question": "？", "answers": [{"text": "乙", "start": 1}]}]
    assert task(tmp_path / "span", lines(plain)).train == [Question("？", "甲乙丙", (("乙", 1),))]
    short = [{"context": "甲乙丙", "question": "？", "answer": "丙"}]
    assert task(tmp_path / "short", lines(short)).train == [Question("？", "甲乙丙", (("丙", 2),))]
    tagged = [{"text": "甲乙丙", "entities": [[1, 3, "x", "乙丙"], [0, 1, "y"]]}]
    assert task(tmp_path / "tagged", lines(tagged)).train == [Tagged("甲乙丙", ((0, 1, "y"), (1, 3, "x")))]
    table = 'label\ttext_a\n1\t他说"好\n0\t不好\n'
    assert task(tmp_path / "table", table, "{}.tsv").train == [
        Labelled('他说"好', None, "1"),
        Labelled("不好", None, "0"),
    ]
    pairs = "\ufefftext_a\ttext_b\tlabel\r\n甲\t乙\t1\r\n丙\t丁\t0\r\n"
    assert task(tmp_path / "pairs", pairs, "{}.tsv").train == [Labelled("甲", "乙", "1"), Labelled("丙", "丁", "0")]


@pytest.mark.parametrize(("suffix", "packed"), [("xz", lzma), ("gz", gzip), ("bz2", bz2), ("zst", zstd)])
def test_compressed_files_are_the_same_and_damage_is_said(tmp_path, suffix, packed):
    plain = task(tmp_path / "plain", lines(TNEWS), "{}.jsonl")
    content = packed.compress(lines(TNEWS).encode())
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl.{suffix}").write_bytes(content)
    assert Task.read(tmp_path).train == plain.train
    path = tmp_path / f"dev.jsonl.{suffix}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(f"{path}: cannot be read: ")):
        Task.read(tmp_path)


def test_what_is_missing_is_drawn_from_train(tmp_path):
    """CLUE's test splits have no labels: dev is the test then."""
    records = [{"sentence": f"第{number}句", "label": str(number % 2)} for number in range(50)]
    (tmp_path / "train.json").write_text(lines(records))
    (tmp_path / "dev.json").write_text(lines([record | {"label": 1} for record in TNEWS]))
    (tmp_path / "test.json").write_text(lines([{"id": 7, "sentence": "好"}, {"sentence": "坏"}]))
    read = Task.read(tmp_path)
    assert [one.text for one in read.test] == [record["sentence"] for record in TNEWS]
    assert [(one.text, one.label, one.id) for one in read.asked] == [("好", None, 7), ("坏", None, None)]
    assert read.without_label == {} and read.remark == ""  # CLUE's test is there to be answered
    assert read.origin == "its dev as test, 5 of its train as dev" and len(read.dev) == 5
    assert sorted(one.text for one in (*read.train, *read.dev)) == sorted(record["sentence"] for record in records)
    assert Task.read(tmp_path) == read


def test_fingerprints_follow_content_and_kind(tmp_path):
    first = task(tmp_path / "a", lines(TNEWS))
    assert first.fingerprint == task(tmp_path / "b", lines(TNEWS)).fingerprint
    assert first.fingerprint != task(tmp_path / "c", lines(TNEWS[::-1])).fingerprint
    (tmp_path / "a/info.json").write_text('{"labels": [110, 102]}')
    again = Task.read(tmp_path / "a")
    assert again.labels == ("110", "102") and again.fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("content", "name", "kind", "said"),
    [
        (lines(TNEWS) + "{", "{}.json", None, "train.json:3: not JSON: "),
        ("[1]", "{}.json", None, "train.json[0]: not a JSON object"),
        (lines([{"title": "好"}]), "{}.jsonl", None, "train.jsonl:1: no kind of task has the fields title: name them"),
        (lines(TNEWS), "{}.json", "pair", "train.json:1: no field 'text_a' in a pair example; its fields are label,"),
        (
            lines([{"text": 3, "label": 1}]),
            "{}.json",
            None,
            "train.json:1: not an example of a sentence task: text 3 is no",
        ),
        (lines([{"text": "甲", "entities": [[0, 2, "x"]]}]), "{}.json", None, "entity x at [0, 2) of a text of 1 char"),
        ("label\ttext\n1\t甲\t乙\n", "{}.tsv", None, "train.tsv:2: not as many fields as the first line has names"),
        (lines([{"text": "甲"}]), "{}.json", None, "train.json: no labelled example of a sentence task in it"),
        (lines([{"text": "甲", "entities": []}]), "{}.json", None, "task: no example of train has an entity: nothing"),
        (lines([{"text": "甲", "label": 1}]), "{}.json", None, "all examples of train have the label '1': nothing"),
        ("", "{}.json", None, "train.json: no example in it"),
        ("text\tlabel\n", "{}.tsv", None, "train.tsv: no example in it"),
        ("\n\ntext\tlabel\ttext\n甲\t1\t乙\n", "{}.tsv", None, "train.tsv:3: two columns have one name: text, la"),
        ("null", "{}.json", None, "train.json: not one JSON object a line, nor a list of them"),
        ('{\n"data": 5}', "{}.json", None, "train.json: not one JSON object a line, nor a list of them"),
        ('{"data": 5}', "{}.json", None, "train.json:1: no kind of task has the fields data"),
        ("[" * 9999, "{}.json", None, "train.json: not JSON: "),
        (lines([*TNEWS, {"paragraphs": None}]), "{}.json", None, "train.json:3: its paragraphs are no list"),
        ('[{"paragraphs": [{"qas": 5}]}]', "{}.json", None, "train.json[0].paragraphs[0]: its qas are no list"),
        ('[{"context": "甲", "qas": [5]}]', "{}.json", None, "train.json[0].qas[0]: not a JSON object"),
        (
            '[{"qas": [{"question": "？"}]}]',
            "{}.json",
            None,
            "train.json[0].qas[0]: not an example of a span task: con",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, content, name, kind, said):
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        task(tmp_path / "task", content, name, kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("sentence", {"label": [1]}, "label [1] is no text and no number: write it as one"),
        ("sentence", {"label": {}}, "label {} is no text and no number: write it as one"),
        ("sentence", {"label": True}, "label true is no text and no number: write it as one"),
        ("sentence", {"label": math.nan}, "label NaN is no text and no number: write it as one"),
        ("sentence", {"label": math.inf}, "label Infinity is no text and no number: write it as one"),
        ("sentence", {"label": "\ud800"}, "'utf-8' codec can't encode character"),
        ("sentence", {"text": "\ud800"}, "'utf-8' codec can't encode character"),
        ("tagging", {"label": "x"}, 'label "x" is no object of entities'),
        ("tagging", {"entities": [[0, 1.5, "x"]]}, "entity x at [0, 1.5) of a text of 2 characters"),
        ("tagging", {"entities": [[0, 1, None]]}, "label null is no text and no number: write it as one"),
        ("tagging", {"label": {"x": {"甲": [[1, 1]]}}}, '"甲" is not what stands at [1, 1], "乙"'),
        ("tagging", {"label": {"x": {"甲": [[0, 1]]}}}, '"甲" is not what stands at [0, 1], "甲乙"'),
        ("tagging", {"label": {"x": {"甲": [[0, 1.0]]}}}, "entity x at [0, 2.0) of a text of 2 characters"),
        ("span", {"context": None}, "context null is no text"),
        (
            "span",
            {"answers": {"text": ["甲"], "answer_start": [0]}},
            'answers {"text": ["甲"], "answer_start": [0]} are no',
        ),
        ("span", {"answers": [{"text": ""}]}, 'answer {"text": ""} needs a text, and an integer for its start'),
        (
            "span",
            {"answers": [{"text": "甲", "start": math.inf}]},
            'answer {"text": "甲", "start": Infinity} needs a text',
        ),
    ],
)
def test_odd_fields_are_said_and_not_read(tmp_path, kind, fields, said):
    plain = {"text": "甲乙"} if kind != "span" else {"context": "甲乙", "question": "？", "answers": ["乙"]}
    with pytest.raises(ValueError, match=re.escape(f"train.jsonl:1: not an example of a {kind} task: {said}")):
        task(tmp_path, json.dumps({**plain, **fields}), "{}.jsonl", kind)


def test_blank_lines_are_passed_over_and_counted(tmp_path):
    assert task(tmp_path / "lines", "\n \n" + lines(TNEWS)).train == task(tmp_path / "plain", lines(TNEWS)).train
    assert task(tmp_path / "table", "\nlabel\ttext\n\n1\t甲\n0\t乙\n", "{}.tsv").labels == ("0", "1")
    with pytest.raises(ValueError, match=re.escape("train.json:4: not JSON")):
        task(tmp_path / "wrong", "\n" + lines(TNEWS) + "{")


def test_a_whole_number_is_one_label_however_it_is_written(tmp_path):
    records = [{"text": "甲", "label": label} for label in (1, 1.0, "1", -0.0, 0, 0.5)]
    read = task(tmp_path, lines(records))
    assert [one.label for one in read.train] == ["1", "1", "1", "0", "0", "0.5"]
    (tmp_path / "info.json").write_text('{"labels": [1.0, 0, 0.5]}')
    assert Task.read(tmp_path).labels == ("1", "0", "0.5")


def test_examples_without_a_label_are_left_out_and_counted(tmp_path):
    folder = tmp_path / "ocnli"
    assert task(folder, lines(OCNLI)).without_label == {"train": 1, "dev": 1, "test": 1}
    said = (
        "ocnli: examples without a label are left out: 1 of train, 1 of dev, 1 of test; texts that are in train too, "
    )
    assert Task.read(folder).remark == f"{said}without --train.overlap drop: 2 of dev, 2 of test"
    (folder / "dev.json").write_text(lines(OCNLI[:2]))
    (folder / "test.json").write_text(lines([{**record, "label": None} for record in OCNLI]))
    (folder / "train.json").write_text(lines(2 * OCNLI))
    assert Task.read(folder).without_label == {"train": 2}
    assert [one.id for one in Task.read(folder).asked] == [0, 1, 2]


@pytest.mark.parametrize("records", [TNEWS, CLUENER], ids=["sentence", "tagging"])
def test_a_train_that_teaches_nothing_is_said_whatever_dev_and_test_have(tmp_path, records):
    task(tmp_path, lines(records))
    (tmp_path / "train.json").write_text(lines(2 * records[1:]))
    with pytest.raises(ValueError, match=r"^\S+: (all examples|no example) of train ha\w+ .*: nothing to learn$"):
        Task.read(tmp_path)


def test_texts_of_dev_and_test_that_are_in_train_too_are_counted(tmp_path):
    new = {"sentence": {"text": "新", "label": "1"}, "pair": {"text_a": "新", "text_b": "旧", "label": "1"}}
    more = {"tagging": {"text": "新", "entities": []}, "span": {"context": "新旧", "question": "？", "answers": ["旧"]}}
    for kind, record in (new | more).items():
        folder = made_task(tmp_path / kind, kind)
        train = (folder / "train.jsonl").read_text().splitlines()
        for split, own in (("dev", []), ("test", [*train[:2], train[0]])):
            (folder / f"{split}.jsonl").write_text("\n".join([*own, json.dumps(record)]))
        assert Task.read(folder).overlap == {"test": 3}
    assert Task.read(folder).remark == "span: texts that are in train too, without --train.overlap drop: 3 of test"
    other = (first := json.loads(train[0])) | {"answers": [first["context"][:2]], "id": 7}
    (folder / "dev.jsonl").write_text(json.dumps(other))
    assert Task.read(folder).overlap == {"dev": 1, "test": 3}, "whatever their answers"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("null", "info.json: not a JSON object with a list of labels"),
        ('{"labels": 5}', "info.json: not a JSON object with a list of labels"),
        ('{"labels": null}', "info.json: not a JSON object with a list of labels"),
        ('{"labels": "102"}', "info.json: not a JSON object with a list of labels"),
        ('{"labels": ["102", 110, 102.0]}', "info.json: labels that are there twice: 102"),
        ('{"labels": ["102", [110]]}', "info.json: label [110] is no text and no number"),
        ("{", "info.json: Expecting property name"),
    ],
)
def test_wrong_orders_of_labels_are_said(tmp_path, content, said):
    task(tmp_path, lines(TNEWS))
    (tmp_path / "info.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(said)):
        Task.read(tmp_path)


def test_labels_that_stand_for_none_are_said(tmp_path):
    made_up = [{"context": "甲", "question": "？", "answers": [{"text": "FAKE_ANSWER_1", "answer_start": -1}]}]
    with pytest.raises(ValueError, match=r"dev.json: no answer stands in its passage: leave out answers that are not"):
        task(tmp_path / "span", lines(made_up))
    task(tmp_path, lines(TNEWS))
    (tmp_path / "test.json").write_text(lines([{**record, "label": -1} for record in TNEWS]))
    with pytest.raises(ValueError, match=r"test.json: no label is one of train's: leave out labels that are not told"):
        Task.read(tmp_path)


def test_a_train_of_one_example_gives_none_to_dev(tmp_path):
    (tmp_path / "train.json").write_text(lines(TNEWS[:1]))
    (tmp_path / "dev.json").write_text(lines(TNEWS))
    with pytest.raises(ValueError, match="train has one example, and dev would take it: give more"):
        Task.read(tmp_path)


def test_wrong_folders_are_said(tmp_path):
    with pytest.raises(ValueError, match=r"no task: it has no train.jsonl"):
        Task.read(tmp_path)
    task(tmp_path, lines(TNEWS))
    (tmp_path / "info.json").write_text('{"labels": ["102"]}')
    with pytest.raises(ValueError, match=r"labels that info.json does not name: 110"):
        Task.read(tmp_path)
    (tmp_path / "info.json").unlink()
    (tmp_path / "dev.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"has dev.jsonl and dev.json: leave one of them"):
        Task.read(tmp_path)
    for split in ("dev.jsonl", "dev.json", "test.json"):
        (tmp_path / split).unlink()
    with pytest.raises(ValueError, match="neither dev nor test has labels"):
        Task.read(tmp_path)
