"""One fine-tuning of a model on a task, by Hugging Face's Trainer."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import transformers

from data_tools.progress import Progress
from data_tools.shards.keyed_rng import key_of, permutation
from litebert.finetune.candidate import Candidate
from litebert.finetune.classes import by_class, confused
from litebert.finetune.classification import Classification
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.distillation import Teaching, collator
from litebert.finetune.family import Encoded, Family, Floats
from litebert.finetune.prediction import arguments, predicted
from litebert.finetune.span import Span
from litebert.finetune.tagging import Tagging
from litebert.finetune.tasks import Task

MEASURED = ("dev", "test")


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one fine-tuning.

    Attributes:
        scores: by split, dev and test, by name; shares of 1. Empty of a model that diverged: its logits are not finite.
        seconds: of training.
        tokens_per_s: in training, padding aside; 0 without any.
        classes: of test, precision, recall, F1 and count of each class; none of a span task.
        confused: of test, the classes that are most often taken for others: [right, said, count].
    """

    scores: Mapping[str, Mapping[str, float]]
    seconds: float
    tokens_per_s: float
    classes: Mapping[str, Mapping[str, float]]
    confused: Sequence[Sequence[str | int]]


@dataclasses.dataclass(frozen=True)
class PreparedTask:
    """A task as one model reads it, ready for any number of fine-tunings.

    Attributes:
        examples, encoded: by split; train is what is left of it by the settings, and what a teacher answered.
        teaching: of the student that the model is; None of a model that learns from labels alone.
    """

    candidate: Candidate
    task: Task
    family: Family
    config: FinetuneConfig
    examples: Mapping[str, Sequence[Any]]
    encoded: Mapping[str, Encoded]
    teaching: Teaching | None

    @classmethod
    def prepared(
        cls,
        candidate: Candidate,
        task: Task,
        config: FinetuneConfig,
        shuffled: bool = False,
        teaching: Teaching | None = None,
    ) -> PreparedTask:
        """Encodes a task, and asks its teacher; where it is shuffled, the labels of train, and of nothing else."""
        family = family_of(task)
        train = used(task, config)
        if shuffled:
            train = family.shuffled(train, key_of("shuffled", task.fingerprint))
        if teaching:
            train += teaching.more(task, train)
        examples = {"train": train, "dev": task.dev, "test": task.test}
        length = length_of(family, candidate, config)
        encoded = {split: family.encode(ones, candidate.tokenizer, length) for split, ones in examples.items()}
        if teaching:
            encoded["train"] = teaching.answered(family, train, encoded["train"], candidate, config)
        return cls(candidate, task, family, config, examples, encoded, teaching)

    def run(self, rate: float, seed: int, random: bool, label: str) -> tuple[Trial, Any]:
        """Fine-tunes the model, or random weights of its shape, and measures it. On a CPU the same scores every time.

        Args:
            rate: peak learning rate.
            seed: of the new weights, the order and dropout.
            label: to show its progress with.

        Returns:
            what came of it, and the model.
        """
        config, train = self.config, self.encoded["train"]
        transformers.set_seed(seed)
        model = self.candidate.begun(self.family.head, self.family.outputs, random)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="litebert-") as folder:
            trainer = self._trainer(model, rate, seed, folder)
            if config.epochs:
                total = len(train.rows) * config.epochs
                with Progress(label, "rows", total) as progress:
                    trainer.add_callback(_Shown(progress, total))
                    trainer.train()
        seconds = time.monotonic() - begin
        tokens_per_s = train.tokens * config.epochs / seconds
        outputs = {split: self._outputs(model, split) for split in MEASURED}
        if not all(np.isfinite(logits).all() for arrays in outputs.values() for logits in arrays):
            return Trial({}, seconds, tokens_per_s, {}, []), model
        measured = {split: (self.examples[split], self.encoded[split], outputs[split]) for split in MEASURED}
        scores = {split: self.family.scores(*found) for split, found in measured.items()}
        pairs = Counter(self.family.pairs(*measured["test"]))
        classes, mistaken = by_class(pairs, self.task.labels), confused(pairs)
        return Trial(scores, seconds, tokens_per_s, classes, mistaken), model

    def _trainer(self, model: Any, rate: float, seed: int, folder: str) -> Any:
        config, tokenizer = self.config, self.candidate.tokenizer
        more = arguments(
            config,
            folder,
            num_train_epochs=config.epochs,
            learning_rate=rate,
            warmup_steps=config.warmup,
            weight_decay=config.weight_decay,
            seed=seed,
            train_sampling_strategy="group_by_length",
            label_names=["labels"] if self.teaching else None,
        )
        trainer = transformers.Trainer(
            model,
            more,
            data_collator=collator(tokenizer)
            if self.teaching
            else getattr(transformers, self.family.collator)(tokenizer),
            train_dataset=self.encoded["train"].rows,
            processing_class=tokenizer,
            compute_loss_func=self.teaching.loss if self.teaching else None,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer

    def _outputs(self, model: Any, split: str) -> tuple[Floats, ...]:
        """What a model gives for a split."""
        return predicted(model, self.candidate.tokenizer, self.family, self.encoded[split].rows, self.config)


class _Shown(transformers.TrainerCallback):
    """Tells a progress of every step."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._progress.advance(self._total / state.max_steps)


def family_of(task: Task) -> Family:
    """How a task is learnt and measured."""
    if task.kind == "tagging":
        return Tagging(task.labels)
    return Span() if task.kind == "span" else Classification(task.labels)


def used(task: Task, config: FinetuneConfig) -> list[Any]:
    """The examples of train that are learnt from, in their order. Raises ValueError where none is left."""
    train = list(task.train)
    if config.overlap == "drop":
        measured = {one.bare for one in (*task.dev, *task.test)}
        train = [one for one in train if one.bare not in measured]
    if not train:
        raise ValueError(f"{task.name}: train has no text that is not in dev or test: train.overlap drop leaves none")
    order = permutation(key_of("samples", task.fingerprint), len(train))[: config.samples or None]
    return [train[number] for number in np.sort(order)]


def length_of(family: Family, candidate: Candidate, config: FinetuneConfig) -> int:
    """Tokens of an example, at most. Raises ValueError where the settings say more than the model takes."""
    if config.max_length > candidate.positions:
        raise ValueError(
            f"{candidate.location} takes {candidate.positions} tokens: train.max_length {config.max_length} is too much"
        )
    return config.max_length or min(family.max_length, candidate.positions)
