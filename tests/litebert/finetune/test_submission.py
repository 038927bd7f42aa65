"""Files of predictions, in the form of CLUE's and CMRC's."""

import json

from litebert.finetune.examples import Identity, Labelled, Question, Tagged
from litebert.finetune.submission import identities, submission


def test_classes_are_a_line_an_example():
    name, text = submission([Labelled("甲", None, None, 7), Labelled("乙", None, "1", 3)], ["0", "类"])
    assert name == "predictions.jsonl"
    assert text == '{"id": 7, "label": "0"}\n{"id": 3, "label": "类"}\n'


def test_entities_are_cluener_s():
    text = "浙商银行叶老桂博士，叶老桂说"
    said = {(0, 4, "company"), (4, 7, "name"), (10, 13, "name")}
    _, lines = submission([Tagged(text, None), Tagged("雨", ())], [said, set()])
    expected = {"name": {"叶老桂": [[4, 6], [10, 12]]}, "company": {"浙商银行": [[0, 3]]}}
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"id": 0, "text": text, "label": expected},
        {"id": 1, "text": "雨", "label": {}},
    ]


def test_answers_are_one_object():
    name, text = submission([Question("？", "甲乙", (), "Q1"), Question("？", "甲乙", (), "Q0")], ["甲", ""])
    assert (name, json.loads(text)) == ("predictions.json", {"Q1": "甲", "Q0": ""})


def test_examples_have_numbers_where_not_each_has_a_name_of_its_own():
    cases: list[tuple[list[Identity], list[Identity]]] = [
        ([5, "a"], [5, "a"]),
        ([5, None], [0, 1]),
        ([5, 5], [0, 1]),
        ([1, "1"], [0, 1]),
    ]
    for names, expected in cases:
        assert list(identities([Labelled("甲", None, None, name) for name in names])) == expected
