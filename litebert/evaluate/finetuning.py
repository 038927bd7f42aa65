"""One fine-tuning of a model on a task, by Hugging Face's Trainer."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from data_tools.progress import Progress
from data_tools.shards.keyed_rng import key_of, permutation
from litebert.evaluate.candidate import Candidate
from litebert.evaluate.classification import Classification
from litebert.evaluate.config import FinetuneConfig
from litebert.evaluate.family import Encoded, Family, Floats
from litebert.evaluate.span import Span
from litebert.evaluate.tagging import Tagging
from litebert.evaluate.tasks import Task

MEASURED = ("dev", "test")


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one fine-tuning.

    Attributes:
        scores: by split, dev and test, by name; shares of 1.
        seconds: of training.
        tokens_per_s: in training, padding aside; 0 without any.
    """

    scores: Mapping[str, Mapping[str, float]]
    seconds: float
    tokens_per_s: float


@dataclasses.dataclass(frozen=True)
class PreparedTask:
    """A task as one model reads it, ready for any number of fine-tunings.

    Attributes:
        examples, encoded: by split; train is what is left of it by the settings.
    """

    candidate: Candidate
    task: Task
    family: Family
    config: FinetuneConfig
    examples: Mapping[str, Sequence[Any]]
    encoded: Mapping[str, Encoded]

    @classmethod
    def prepared(cls, candidate: Candidate, task: Task, config: FinetuneConfig, shuffled: bool) -> PreparedTask:
        """Encodes a task; where it is shuffled, the labels of train, and of nothing else."""
        family = family_of(task)
        order = permutation(key_of("samples", task.fingerprint), len(task.train))[: config.samples or None]
        train = [task.train[number] for number in np.sort(order)]
        if shuffled:
            train = family.shuffled(train, key_of("shuffled", task.fingerprint))
        examples = {"train": train, "dev": task.dev, "test": task.test}
        length = length_of(family, candidate, config)
        encoded = {split: family.encode(ones, candidate.tokenizer, length) for split, ones in examples.items()}
        return cls(candidate, task, family, config, examples, encoded)

    def run(self, rate: float, seed: int, random: bool, label: str) -> Trial:
        """Fine-tunes the model, or random weights of its shape, and measures it. On a CPU the same scores every time.

        Args:
            rate: peak learning rate.
            seed: of the new weights, the order and dropout.
            label: to show its progress with.
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
            scores = {split: self._measured(trainer, split) for split in MEASURED}
        return Trial(scores, seconds, train.tokens * config.epochs / seconds)

    def _trainer(self, model: Any, rate: float, seed: int, folder: str) -> Any:
        config, tokenizer = self.config, self.candidate.tokenizer
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch,
            per_device_eval_batch_size=2 * config.batch,
            learning_rate=rate,
            warmup_steps=config.warmup,
            weight_decay=config.weight_decay,
            use_cpu=device() == "cpu",
            bf16=config.resolved.precision == "bf16",
            dataloader_pin_memory=device() == "cuda",
            seed=seed,
            train_sampling_strategy="group_by_length",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model,
            arguments,
            data_collator=getattr(transformers, self.family.collator)(tokenizer),
            train_dataset=self.encoded["train"].rows,
            processing_class=tokenizer,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer

    def _measured(self, trainer: Any, split: str) -> dict[str, float]:
        """Scores on a split, read from the longest row to the shortest, so that batches hold little padding."""
        encoded = self.encoded[split]
        order = np.argsort([-len(row["input_ids"]) for row in encoded.rows], kind="stable")
        trainer.args.train_sampling_strategy = "sequential"  # which predict obeys too: it would shuffle
        predicted = trainer.predict([encoded.rows[row] for row in order]).predictions
        outputs: list[Floats] = []
        for logits in predicted if isinstance(predicted, tuple) else (predicted,):
            outputs.append(np.empty_like(logits))
            outputs[-1][order] = logits
        return self.family.scores(self.examples[split], encoded, tuple(outputs))


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


def device() -> str:
    """What a fine-tuning runs on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def length_of(family: Family, candidate: Candidate, config: FinetuneConfig) -> int:
    """Tokens of an example, at most. Raises ValueError where the settings say more than the model takes."""
    if config.max_length > candidate.positions:
        raise ValueError(
            f"{candidate.location} takes {candidate.positions} tokens: train.max_length {config.max_length} is too much"
        )
    return config.max_length or min(family.max_length, candidate.positions)
