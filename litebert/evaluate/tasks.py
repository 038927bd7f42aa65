"""Tasks to fine-tune on: folders of labelled examples, of four kinds, in CLUE's formats and in plain jsonl and tsv."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.shards.keyed_rng import key_of, permutation
from data_tools.shards.tar import sha256
from litebert.evaluate.records import OPENERS, TYPES, Record, records

SPLITS = ("train", "dev", "test")
DEV_SHARE = 10  # one of so many training examples is for dev, where a task has no dev of its own
UNLABELLED = (None, "", "-")  # OCNLI writes - where its annotators did not agree
IDENTITIES = ("id", "idx", "query_id")

Identity = str | int | None


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, and its class; None where that is not told."""

    text: str
    other: str | None
    label: str | None
    id: Identity = dataclasses.field(default=None, compare=False)

    @property
    def labelled(self) -> bool:
        """Whether its class is told."""
        return self.label is not None

    @property
    def bare(self) -> Labelled:
        """Its text alone."""
        return dataclasses.replace(self, label=None)


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A text and its entities: (start, end, type), end exclusive, in characters; None where they are not told."""

    text: str
    entities: tuple[tuple[int, int, str], ...] | None
    id: Identity = dataclasses.field(default=None, compare=False)

    @property
    def labelled(self) -> bool:
        """Whether its entities are told."""
        return self.entities is not None

    @property
    def bare(self) -> Tagged:
        """Its text alone."""
        return dataclasses.replace(self, entities=None)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question on a passage, and the answers that are right: (text, where it starts, or -1 if it is not there)."""

    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    id: Identity = dataclasses.field(default=None, compare=False)

    @property
    def labelled(self) -> bool:
        """Whether an answer is told."""
        return bool(self.answers)

    @property
    def bare(self) -> Question:
        """Its question and passage alone."""
        return dataclasses.replace(self, answers=())


Example = Labelled | Tagged | Question


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, read.

    Attributes:
        name: of its folder.
        kind: sentence, pair, tagging or span.
        labels: classes, or types of entities, in order; none of a span task.
        train, dev, test: labelled examples.
        asked: all of the file of test, labelled or not; where there is none, test.
        without_label: how many examples are left out of a split for that, where there are any.
        origin: where dev and test come from.
        fingerprint: SHA-256 of its files and kind, in hex.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    train: Sequence[Any]
    dev: Sequence[Any]
    test: Sequence[Any]
    asked: Sequence[Any]
    without_label: Mapping[str, int]
    origin: str
    fingerprint: str

    @classmethod
    def read(cls, folder: Path, kind: str | None = None) -> Task:
        """Reads {train,dev,test}.{jsonl,json,tsv}, perhaps compressed, and info.json, whose `labels` order the classes.

        A split without labels counts as none, as CLUE's test splits have none. Where only one of dev and test is
        left, it is the test, and dev is a tenth of train, drawn by a fixed key.

        Args:
            kind: inferred from the fields of the first training example, if not given.

        Raises:
            ValueError: there is no such task, or something in it is wrong; file and line are named.
        """
        found = {split: path for split in SPLITS if (path := _file(folder, split))}
        if "train" not in found:
            raise ValueError(f"{folder}: no task: it has no train.jsonl, train.json or train.tsv, plain or compressed")
        kind = kind or _inferred(found["train"])
        every = {split: list(_examples(path, kind)) for split, path in found.items()}
        read = {split: [one for one in ones if one.labelled] for split, ones in every.items()}
        if not read["train"]:
            raise ValueError(f"{found['train']}: no labelled example of a {kind} task in it")
        splits, origin = _divided(folder, read)
        for split in SPLITS[1:]:
            if read.get(split):
                _check_told(found[split], kind, read["train"], read[split])
        info = folder / "info.json"
        files = [*found.values(), *([info] if info.is_file() else [])]
        digest = hashlib.sha256("\0".join([kind, *(f"{path.name} {sha256(path)}" for path in files)]).encode())
        return cls(
            folder.resolve().name,
            kind,
            _labels(folder, kind, splits),
            **splits,
            asked=every.get("test", splits["test"]),
            without_label={
                split: len(every[split]) - len(ones)
                for split, ones in read.items()
                if 0 < len(ones) < len(every[split])
            },
            origin=origin,
            fingerprint=digest.hexdigest(),
        )

    @property
    def remark(self) -> str:
        """What of its files is left out, cannot be learnt or is in train too, in words; nothing if nothing is."""
        found = []
        if self.without_label:
            found.append(f"examples without a label are left out: {_counts(self.without_label)}")
        if self.overlap:
            found.append(f"texts that are in train too, without --train.overlap drop: {_counts(self.overlap)}")
        if self.unfound:
            found.append(
                f"questions of train whose answer is not in its passage: {self.unfound:,}, learnt as having none"
            )
        return f"{self.name}: {'; '.join(found)}" if found else ""

    @cached_property
    def overlap(self) -> Mapping[str, int]:
        """How many examples of dev and of test have a text that one of train has, whatever its label, where any do."""
        learnt = {one.bare for one in self.train}
        counts = {
            "dev": sum(one.bare in learnt for one in self.dev),
            "test": sum(one.bare in learnt for one in self.test),
        }
        return {split: count for split, count in counts.items() if count}

    @property
    def unfound(self) -> int:
        """Questions of train whose first answer, which is what is learnt, does not stand in their passage."""
        return sum(one.answers[0][1] < 0 for one in self.train) if self.kind == "span" else 0


def unlabelled(path: Path, kind: str) -> list[Labelled | Tagged]:
    """The examples of a file of a task's format without their labels, which it need not have; not of a span task.

    Raises ValueError where something in it is wrong, or it has none; file and line are named.
    """
    return [one.bare for one in _examples(path, kind) if not isinstance(one, Question)]


def _file(folder: Path, split: str) -> Path | None:
    names = [f"{split}{kind}{compression}" for kind in TYPES for compression in OPENERS]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} has {' and '.join(path.name for path in found)}: leave one of them")
    return found[0] if found else None


def _divided(folder: Path, read: Mapping[str, list[Example]]) -> tuple[dict[str, list[Example]], str]:
    """The three splits, from those that have labels."""
    train, labelled = read["train"], [split for split in SPLITS[1:] if read.get(split)]
    if not labelled:
        raise ValueError(f"{folder}: neither dev nor test has labels: nothing to measure on")
    if len(labelled) == 2:
        return dict(read), "its own dev and test"
    if len(train) < 2:
        raise ValueError(f"{folder}: train has one example, and dev would take it: give more, or a dev and a test")
    order = permutation(key_of("dev", len(train)), len(train))
    count = max(1, len(train) // DEV_SHARE)
    drawn, left = sorted(order[:count]), sorted(order[count:])
    parts = {"train": [train[i] for i in left], "dev": [train[i] for i in drawn], "test": read[labelled[0]]}
    return parts, f"its {labelled[0]} as test, {count} of its train as dev"


def _labels(folder: Path, kind: str, splits: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Classes in the order of info.json, or sorted; types of entities. Raises ValueError where train teaches none."""
    if kind == "span":
        return ()
    every = [one for split in splits.values() for one in split]
    if kind == "tagging":
        if not any(one.entities for one in splits["train"]):
            raise ValueError(f"{folder}: no example of train has an entity: nothing to learn")
        return tuple(sorted({name for one in every for _, _, name in one.entities}))
    used, ordered = {one.label for one in every}, _ordered(folder / "info.json")
    if ordered and (strange := used - set(ordered)):
        raise ValueError(f"{folder}: labels that info.json does not name: {', '.join(sorted(strange)[:5])}")
    if len({one.label for one in splits["train"]}) < 2:
        raise ValueError(
            f"{folder}: all examples of train have the label {splits['train'][0].label!r}: nothing to learn"
        )
    return ordered or tuple(sorted(used))


def _ordered(path: Path) -> tuple[str, ...]:
    """The labels of info.json; none where it does not have them."""
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        given = content.get("labels", []) if isinstance(content, dict) else None
        if not isinstance(given, list):
            raise ValueError("not a JSON object with a list of labels")
        labels = tuple(map(_name, given))
        if twice := [label for label in dict.fromkeys(labels) if labels.count(label) > 1]:
            raise ValueError(f"labels that are there twice: {', '.join(twice[:5])}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    return labels


def _check_told(path: Path, kind: str, train: Sequence[Any], measured: Sequence[Any]) -> None:
    """Raises ValueError where labels only stand for none, as Hugging Face's -1 in CLUE's test splits does."""
    if kind == "span" and all(start < 0 for one in measured for _, start in one.answers):
        raise ValueError(f"{path}: no answer stands in its passage: leave out answers that are not told")
    if kind in ("sentence", "pair") and not {one.label for one in measured} & {one.label for one in train}:
        raise ValueError(f"{path}: no label is one of train's: leave out labels that are not told")


def _examples(path: Path, kind: str) -> Iterator[Example]:
    """The examples of a file, labelled or not."""
    for where, record in records(path):
        try:
            yield READERS[kind](record)
        except KeyError as error:
            raise ValueError(
                f"{where}: no field {error} in a {kind} example; its fields are {_names(record)}"
            ) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: not an example of a {kind} task: {error}") from None


def _inferred(path: Path) -> str:
    """The kind of a task, from the fields of its first record."""
    where, record = next(records(path))
    if "context" in record:
        return "span"
    if "entities" in record or isinstance(record.get("label"), dict):
        return "tagging"
    if any(record.keys() >= set(names) for names in PAIRS):
        return "pair"
    if any(name in record for name in TEXTS):
        return "sentence"
    raise ValueError(f"{where}: no kind of task has the fields {_names(record)}: name them as docs/evaluation.md does")


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} of {split}" for split, count in found.items())


def _names(record: Record) -> str:
    return ", ".join(map(str, record)) or "none"


TEXTS = ("text", "sentence", "text_a")
PAIRS = (("text_a", "text_b"), ("sentence1", "sentence2"), ("keyword", "abst"))


def _sentence(record: Record) -> Labelled:
    if "target" in record:
        return Labelled(_marked(_text(record, "text"), record["target"]), None, _class(record), _id(record))
    name = next((name for name in TEXTS if name in record), TEXTS[0])
    return Labelled(_text(record, name), None, _class(record), _id(record))


def _class(record: Record) -> str | None:
    label = record.get("label")
    return None if label in UNLABELLED else _name(label)


def _name(label: Any) -> str:
    """A label as text. A whole number is the same label as 1, as 1.0 and as "1"."""
    if isinstance(label, float) and math.isfinite(label):
        label = int(label) if label.is_integer() else str(label)
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise ValueError(f"label {_shown(label)} is no text and no number: write it as one")
    return _encodable(str(label))


def _id(record: Record) -> Identity:
    """What an example is called, where that is a text or an integer."""
    given = next((record[name] for name in IDENTITIES if name in record), None)
    if isinstance(given, str):
        return _encodable(given)
    return given if isinstance(given, int) else None


def _marked(text: str, target: Record) -> str:
    """CLUEWSC's two mentions, marked in their text: [the noun] and _the pronoun_."""
    noun = (target["span1_index"], target["span1_text"], ("[", "]"))
    pronoun = (target["span2_index"], target["span2_text"], ("_", "_"))
    for start, mention, (left, right) in sorted([noun, pronoun], reverse=True):
        end = start + len(mention)
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"{mention} at {start} of a text of {len(text)} characters")
        text = f"{text[:start]}{left}{text[start:end]}{right}{text[end:]}"
    return text


def _pair(record: Record) -> Labelled:
    first, second = next((names for names in PAIRS if record.keys() >= set(names)), PAIRS[0])
    one = record[first]
    text = _encodable("，".join(one)) if isinstance(one, list) else _text(record, first)  # CSL lists keywords
    return Labelled(text, _text(record, second), _class(record), _id(record))


def _tagged(record: Record) -> Tagged:
    text, label = _text(record, "text"), record.get("label")
    if isinstance(label, dict):  # CLUENER: {type: {mention: [[first, last], ...]}}
        mentions = [(name, *each) for name, found in label.items() for each in found.items()]
        entities = [
            (_checked(text, mention, first, last), last + 1, _name(name))
            for name, mention, places in mentions
            for first, last in places
        ]
    elif label is not None:
        raise ValueError(f"label {_shown(label)} is no object of entities")
    elif record.get("entities") is None:
        return Tagged(text, None, _id(record))
    else:
        entities = [(start, end, _name(name)) for start, end, name, *_ in record["entities"]]
    for start, end, name in entities:
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
            raise ValueError(f"entity {name} at [{start}, {end}) of a text of {len(text)} characters")
    return Tagged(text, tuple(sorted(set(entities))), _id(record))


def _checked(text: str, mention: str, first: int, last: int) -> int:
    """The first character of a mention. Raises ValueError where the text has other characters there."""
    if (
        type(first) is int
        and type(last) is int
        and 0 <= first <= last < len(text)
        and text[first : last + 1] != mention
    ):
        raise ValueError(f"{_shown(mention)} is not what stands at [{first}, {last}], {_shown(text[first : last + 1])}")
    return first


def _question(record: Record) -> Question:
    context, question = _text(record, "context"), _text(record, "question")
    given = record.get("answers") or record.get("answer") or []
    if not isinstance(given, str | list):
        raise ValueError(f"answers {_shown(given)} are no list")
    answers = [_answer(one, context) for one in ([given] if isinstance(given, str) else given)]
    return Question(question, context, tuple(answers), _id(record))


def _answer(answer: str | Record, context: str) -> tuple[str, int]:
    """Text and start; where a start is not told or does not fit, the first place that does."""
    if isinstance(answer, str):
        answer = {"text": answer}
    text, start = _text(answer, "text"), answer.get("start", answer.get("answer_start", -1))
    if not text or not isinstance(start, int):
        raise ValueError(f"answer {_shown(answer)} needs a text, and an integer for its start")
    return text, start if start >= 0 and context.startswith(text, start) else context.find(text)


def _text(record: Record, name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} {_shown(value)} is no text")
    return _encodable(value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:40]


def _encodable(text: str) -> str:
    """The text. Raises ValueError where a tokenizer could not take it: half a surrogate pair is no character."""
    text.encode()
    return text


READERS: dict[str, Callable[[Record], Example]] = {
    "sentence": _sentence,
    "pair": _pair,
    "tagging": _tagged,
    "span": _question,
}
KINDS = tuple(READERS)
