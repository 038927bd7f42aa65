"""Tasks to fine-tune on: folders of labelled examples, of four kinds, in CLUE's formats and in plain jsonl and tsv."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.shards.keyed_rng import key_of, permutation
from data_tools.shards.tar import sha256
from litebert.finetune.examples import Example, examples, kind_of, label_text
from litebert.finetune.records import OPENERS, TYPES

SPLITS = ("train", "dev", "test")
DEV_SHARE = 10  # one of so many training examples is for dev, where a task has no dev of its own


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
        kind = kind or kind_of(found["train"])
        every = {split: list(examples(path, kind)) for split, path in found.items()}
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
        labels = tuple(map(label_text, given))
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


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} of {split}" for split, count in found.items())
