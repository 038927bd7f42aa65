"""Tasks to fine-tune on: folders of labelled examples, of four kinds, in CLUE's formats and in plain jsonl and tsv."""

from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backports import zstd

from data_tools.shards.keyed_rng import key_of, permutation
from data_tools.shards.tar import sha256

SPLITS = ("train", "dev", "test")
DEV_SHARE = 10  # one of so many training examples is for dev, where a task has no dev of its own
OPENERS: dict[str, Callable[..., Any]] = {
    "": open,
    ".xz": lzma.open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".zst": zstd.open,
}
TYPES = (".jsonl", ".json", ".tsv")
DAMAGE = (OSError, EOFError, UnicodeDecodeError, csv.Error, lzma.LZMAError, zlib.error, zstd.ZstdError)
UNLABELLED = (None, "", "-")  # OCNLI writes - where its annotators did not agree

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A text, or a pair of texts, and its class; None where that is not told."""

    text: str
    other: str | None
    label: str | None

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

    @property
    def labelled(self) -> bool:
        """Whether an answer is told."""
        return bool(self.answers)


Example = Labelled | Tagged | Question


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, read.

    Attributes:
        name: of its folder.
        kind: sentence, pair, tagging or span.
        labels: classes, or types of entities, in order; none of a span task.
        train, dev, test: labelled examples.
        origin: where dev and test come from.
        fingerprint: SHA-256 of its files and kind, in hex.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    train: Sequence[Any]
    dev: Sequence[Any]
    test: Sequence[Any]
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
        read = {split: [one for one in _examples(path, kind) if one.labelled] for split, path in found.items()}
        if not read["train"]:
            raise ValueError(f"{found['train']}: no labelled example of a {kind} task in it")
        splits, origin = _divided(folder, read)
        info = folder / "info.json"
        files = [*found.values(), *([info] if info.is_file() else [])]
        digest = hashlib.sha256("\0".join([kind, *(f"{path.name} {sha256(path)}" for path in files)]).encode())
        labels = _labels(folder, kind, [one for split in splits.values() for one in split])
        return cls(folder.resolve().name, kind, labels, **splits, origin=origin, fingerprint=digest.hexdigest())


def unlabelled(path: Path, kind: str) -> list[Labelled | Tagged]:
    """The examples of a file of a task's format without their labels, which it need not have; not of a span task.

    Raises ValueError where something in it is wrong, or it has none; file and line are named.
    """
    examples = [one.bare for one in _examples(path, kind) if not isinstance(one, Question)]
    if not examples:
        raise ValueError(f"{path}: no example of a {kind} task in it")
    return examples


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
    order = permutation(key_of("dev", len(train)), len(train))
    count = max(1, len(train) // DEV_SHARE)
    drawn, left = sorted(order[:count]), sorted(order[count:])
    parts = {"train": [train[i] for i in left], "dev": [train[i] for i in drawn], "test": read[labelled[0]]}
    return parts, f"its {labelled[0]} as test, {count} of its train as dev"


def _labels(folder: Path, kind: str, examples: Sequence[Any]) -> tuple[str, ...]:
    """Classes in the order of info.json, or sorted; types of entities."""
    if kind == "span":
        return ()
    if kind == "tagging":
        return tuple(sorted({name for one in examples for _, _, name in one.entities}))
    used, told = {one.label for one in examples}, _told(folder / "info.json")
    if told and (strange := used - set(told)):
        raise ValueError(f"{folder}: labels that info.json does not name: {', '.join(sorted(strange)[:5])}")
    labels = told or tuple(sorted(used))
    if len(labels) < 2:
        raise ValueError(f"{folder}: all examples have the label {labels[0]!r}: nothing to learn")
    return labels


def _told(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        return tuple(map(str, json.loads(path.read_text(encoding="utf-8")).get("labels", ())))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a JSON object with labels: {error}") from None


def _examples(path: Path, kind: str) -> Iterator[Example]:
    """The examples of a file, labelled or not."""
    for where, record in _records(path):
        try:
            yield READERS[kind](record)
        except KeyError as error:
            raise ValueError(
                f"{where}: no field {error} in a {kind} example; its fields are {_names(record)}"
            ) from None
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{where}: not an example of a {kind} task: {error}") from None


def _inferred(path: Path) -> str:
    """The kind of a task, from the fields of its first record."""
    where, record = next(_records(path), (str(path), {}))
    if "context" in record:
        return "span"
    if "entities" in record or isinstance(record.get("label"), dict):
        return "tagging"
    if any(record.keys() >= set(names) for names in PAIRS):
        return "pair"
    if any(name in record for name in TEXTS):
        return "sentence"
    raise ValueError(f"{where}: no kind of task has the fields {_names(record)}: name them as docs/evaluation.md does")


def _names(record: Record) -> str:
    return ", ".join(map(str, record)) or "none"


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    """The records of a file, each with where it stands."""
    compression = path.suffix if path.suffix in OPENERS else ""
    parse = _tsv if path.name.removesuffix(compression).endswith(".tsv") else _json
    try:
        with OPENERS[compression](path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield from parse(path, stream)
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _tsv(path: Path, stream: Any) -> Iterator[tuple[str, Record]]:
    """Rows by the names in the first line; nothing is quoted."""
    reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"{path}:{reader.line_num}: not as many fields as the first line has names")
        yield f"{path}:{reader.line_num}", row


def _json(path: Path, stream: Any) -> Iterator[tuple[str, Record]]:
    """One object a line, or one JSON document, as SQuAD's and CMRC's files are."""
    first = stream.readline()
    try:
        begun = json.loads(first)
        lines = isinstance(begun, dict) and "data" not in begun
    except ValueError:
        lines = first.lstrip()[:1] == "{" and first.rstrip()[-1:] == "}"  # a line that is damaged, not a document
    if not lines:
        document = _parsed(first + stream.read(), str(path))
        for record in document["data"] if isinstance(document, dict) and "data" in document else document:
            yield from _questions(record, str(path))
        return
    for number, line in enumerate([first, *stream], start=1):
        if line.strip():
            yield from _questions(_parsed(line, f"{path}:{number}"), f"{path}:{number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None


def _questions(record: Any, where: str) -> Iterator[tuple[str, Record]]:
    """A record, or the questions that are nested in it, each with its passage."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: not a JSON object")
    if "paragraphs" in record:
        for paragraph in record["paragraphs"]:
            yield from _questions(paragraph, where)
    elif "qas" in record:
        context = record.get("context", record.get("context_text"))
        for asked in record["qas"]:
            yield where, {"context": context, "question": asked.get("question", asked.get("query_text")), **asked}
    else:
        yield where, record


TEXTS = ("text", "sentence", "text_a")
PAIRS = (("text_a", "text_b"), ("sentence1", "sentence2"), ("keyword", "abst"))


def _sentence(record: Record) -> Labelled:
    if "target" in record:
        return Labelled(_marked(record["text"], record["target"]), None, _class(record))
    name = next((name for name in TEXTS if name in record), TEXTS[0])
    return Labelled(_text(record[name]), None, _class(record))


def _class(record: Record) -> str | None:
    label = record.get("label")
    return None if label in UNLABELLED else str(label)


def _marked(text: str, target: Record) -> str:
    """CLUEWSC's two mentions, marked in their text: [the noun] and _the pronoun_."""
    noun = (target["span1_index"], target["span1_text"], ("[", "]"))
    pronoun = (target["span2_index"], target["span2_text"], ("_", "_"))
    for start, mention, (left, right) in sorted([noun, pronoun], reverse=True):
        end = start + len(mention)
        text = f"{text[:start]}{left}{text[start:end]}{right}{text[end:]}"
    return text


def _pair(record: Record) -> Labelled:
    first, second = next((names for names in PAIRS if record.keys() >= set(names)), PAIRS[0])
    one = record[first]
    text = "，".join(one) if isinstance(one, list) else _text(one)  # CSL lists keywords
    return Labelled(text, _text(record[second]), _class(record))


def _tagged(record: Record) -> Tagged:
    text, label = _text(record["text"]), record.get("label")
    if isinstance(label, dict):  # CLUENER: {type: {mention: [[first, last], ...]}}
        places = [(name, place) for name, mentions in label.items() for found in mentions.values() for place in found]
        entities = [(int(first), int(last) + 1, name) for name, (first, last) in places]
    elif "entities" in record:
        entities = [(int(start), int(end), str(name)) for start, end, name, *_ in record["entities"]]
    else:
        return Tagged(text, None)
    for start, end, name in entities:
        if not 0 <= start < end <= len(text):
            raise ValueError(f"entity {name} at [{start}, {end}) of a text of {len(text)} characters")
    return Tagged(text, tuple(sorted(set(entities))))


def _question(record: Record) -> Question:
    context, question = _text(record["context"]), _text(record["question"])
    given = record.get("answers") or record.get("answer") or []
    answers = [_answer(one, context) for one in ([given] if isinstance(given, str) else given)]
    return Question(question, context, tuple(answers))


def _answer(answer: str | Record, context: str) -> tuple[str, int]:
    """Text and start; where a start is not told or does not fit, the first place that does."""
    if isinstance(answer, str):
        return answer, context.find(answer)
    text, start = _text(answer["text"]), int(answer.get("start", answer.get("answer_start", -1)))
    return text, start if start >= 0 and context.startswith(text, start) else context.find(text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


READERS: dict[str, Callable[[Record], Example]] = {
    "sentence": _sentence,
    "pair": _pair,
    "tagging": _tagged,
    "span": _question,
}
KINDS = tuple(READERS)
