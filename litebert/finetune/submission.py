"""What a model says of a task's test, as CLUE takes it: a line an example, or one object of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from litebert.finetune.examples import Identity, Labelled, Question, Tagged
from litebert.finetune.tagging import Entity


def submission(examples: Sequence[Any], said: Sequence[Any]) -> tuple[str, str]:
    """The name and the text of a file: predictions.json of questions, predictions.jsonl of anything else.

    Args:
        said: of each example, as ``Family.said`` has it.
    """
    names = identities(examples)
    if isinstance(examples[0], Question):
        found = dict(zip(map(str, names), said, strict=True))
        return "predictions.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n"
    lines = (_line(name, one, its) for name, one, its in zip(names, examples, said, strict=True))
    return "predictions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def identities(examples: Sequence[Any]) -> Sequence[Identity]:
    """What the examples are called; their numbers, from 0, where not each has a name of its own."""
    names = [one.id for one in examples]
    own = None not in names and len(set(map(str, names))) == len(names)
    return names if own else range(len(names))


def _line(name: Identity, one: Labelled | Tagged, said: Any) -> dict[str, Any]:
    if isinstance(one, Tagged):
        return {"id": name, "text": one.text, "label": _mentions(one.text, said)}
    return {"id": name, "label": said}


def _mentions(text: str, entities: set[Entity]) -> Mapping[str, Mapping[str, list[list[int]]]]:
    """Entities as CLUENER has them: {type: {mention: [[first, last], ...]}}, both ends inclusive."""
    found: dict[str, dict[str, list[list[int]]]] = {}
    for start, end, label in sorted(entities):
        found.setdefault(label, {}).setdefault(text[start:end], []).append([start, end - 1])
    return found
