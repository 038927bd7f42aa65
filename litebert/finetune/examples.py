"""Examples of four kinds, read from records: CLUE's fields and plain ones."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from litebert.finetune.records import Record, records

UNLABELLED = (None, "", "-")  # OCNLI writes - where its annotators did not agree
IDENTITIES = ("id", "idx", "query_id")
TEXTS = ("text", "sentence", "text_a")
LABELS = {"label", "entities", "answers", "answer"}
PAIRS = (("text_a", "text_b"), ("sentence1", "sentence2"), ("keyword", "abst"))

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


def examples(path: Path, kind: str, labels: bool = True) -> Iterator[Example]:
    """The examples of a file, labelled or not.

    Args:
        labels: whether to read them, where there are any.

    Raises ValueError where something in it is wrong; file and line are named.
    """
    for where, record in records(path):
        try:
            yield READERS[kind](record if labels else {name: record[name] for name in record.keys() - LABELS})
        except KeyError as error:
            raise ValueError(
                f"{where}: no field {error} in a {kind} example; its fields are {_names(record)}"
            ) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: not an example of a {kind} task: {error}") from None


def kind_of(path: Path) -> str:
    """The kind of a task, from the fields of its first record. Raises ValueError where they are of none."""
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


def unlabelled(path: Path, kind: str) -> list[Example]:
    """The examples of a file of a task's format without their labels, which it need not have.

    Raises ValueError where something in it is wrong, or it has none; file and line are named.
    """
    return list(examples(path, kind, labels=False))


def _names(record: Record) -> str:
    return ", ".join(map(str, record)) or "none"


def _sentence(record: Record) -> Labelled:
    if "target" in record:
        return Labelled(_marked(_text(record, "text"), record["target"]), None, _class(record), _id(record))
    name = next((name for name in TEXTS if name in record), TEXTS[0])
    return Labelled(_text(record, name), None, _class(record), _id(record))


def _class(record: Record) -> str | None:
    label = record.get("label")
    return None if label in UNLABELLED else label_text(label)


def label_text(label: Any) -> str:
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
            (_checked(text, mention, first, last), last + 1, label_text(name))
            for name, mention, places in mentions
            for first, last in places
        ]
    elif label is not None:
        raise ValueError(f"label {_shown(label)} is no object of entities")
    elif record.get("entities") is None:
        return Tagged(text, None, _id(record))
    else:
        entities = [(start, end, label_text(name)) for start, end, name, *_ in record["entities"]]
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
