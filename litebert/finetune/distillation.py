"""Task distillation: a student learns a task from a fine-tuned teacher's logits too, on texts without labels as well.

The teacher answers all texts once, before training. A row's ``labels`` are then float32 [places, 1 + classes]: the
right class, and the teacher's logits. A place is the row, or one of its tokens, whose classes are tags; or the start or
the end of an answer, whose classes are the row's tokens. NaN stands where there is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data_tools.progress import Progress
from data_tools.shards.tar import sha256
from litebert.finetune.augmentation import MASK, augmented
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.examples import Example, unlabelled
from litebert.finetune.family import NOT_LABELLED, TARGETS, Encoded, Family, Floats
from litebert.finetune.prediction import device, predicted
from litebert.finetune.tasks import Task

PART = 4096  # rows that the teacher is asked at a time
PADDING = -torch.inf  # a teacher's logit of a token that is none of the row's


@dataclasses.dataclass(frozen=True)
class Teaching:
    """A fine-tuned teacher of a task, and what it is asked.

    Attributes:
        teacher: with the head of the task's kind.
        config: what is made of its answers.
        texts: without labels, beside those of the task.
        files: SHA-256 of the files that these come from, in hex.
    """

    teacher: Candidate
    config: TaskDistillConfig
    texts: Sequence[Example]
    files: tuple[str, ...]

    @classmethod
    def of(
        cls, teacher: Path, task: Task, family: Family, config: TaskDistillConfig, files: Sequence[Path]
    ) -> Teaching:
        """Opens a folder of launcher/finetune.py, or any like it, and files in the task's format.

        Raises ValueError where the teacher's labels are not the task's, or copies cannot be made of its texts.
        """
        if config.augment and task.kind == "span":
            raise ValueError(
                f"distill.augment {config.augment}: {task.name} is a span task, without copies: leave it out"
            )
        opened = Candidate.read(teacher)
        if task.labels and opened.labels != family.outputs:
            theirs, ours = (", ".join(labels[:5]) for labels in (opened.labels, family.outputs))
            raise ValueError(
                f"{teacher} gives {len(opened.labels)} labels ({theirs}, ...), and {task.name} has "
                f"{len(family.outputs)} ({ours}, ...): give a teacher that was fine-tuned on this task"
            )
        texts = [one for path in files for one in unlabelled(path, task.kind)]
        return cls(opened, config, texts, tuple(map(sha256, files)))

    @property
    def identity(self) -> dict[str, Any]:
        """All that a student's score depends on here."""
        settings = dataclasses.asdict(self.config)
        return {"teacher": self.teacher.fingerprint, "settings": settings, "unlabelled": list(self.files)}

    def more(self, task: Task, train: Sequence[Any]) -> list[Example]:
        """Texts to answer beside those of train, each once, and none of dev or test."""
        seen = {one.bare for split in (train, task.dev, task.test) for one in split}
        new: list[Any] = [one for one in dict.fromkeys(self.texts) if one not in seen]
        config = self.config
        if not config.augment:
            return new
        copies = augmented([*train, *new], config.augment, config.mask, config.ngram, task.fingerprint)
        seen.update(new)
        return new + [one for one in dict.fromkeys(copies) if one not in seen]

    def answered(
        self, family: Family, examples: Sequence[Any], encoded: Encoded, student: Candidate, config: FinetuneConfig
    ) -> Encoded:
        """The rows of a student with the teacher's answers in their labels.

        Args:
            encoded: the examples as the student reads them.
            config: of the student's fine-tuning.

        Raises:
            ValueError: the teacher was not fine-tuned, one of its tokens does not stand for one of the student's, or an
                answer is not finite.
        """
        teacher = self.teacher
        if self.config.augment:
            _check_masks(teacher, student)
        length = min(config.max_length or family.max_length, teacher.positions, student.positions)
        theirs = family.encode(examples, teacher.tokenizer, length)
        self._check_tokens(encoded, theirs)
        model = teacher.finetuned(family.head).to(device())
        rows: list[dict[str, Any]] = []
        with Progress(f"{teacher.location.name} answers", "rows", len(encoded.rows)) as progress:
            for begin in range(0, len(encoded.rows), PART):
                asked = theirs[begin : begin + PART]
                outputs = predicted(model, teacher.tokenizer, family, asked.rows, config)
                if not all(np.isfinite(logits).all() for logits in outputs):
                    raise ValueError(
                        f"{teacher.location}: its answers are not finite: give a teacher that learnt its task"
                    )
                for answer in family.distributions(asked, outputs):
                    rows.append(_taught(encoded.rows[len(rows)], answer))
                progress.advance(len(asked.rows))
        return dataclasses.replace(encoded, rows=rows)

    def loss(self, outputs: Any, targets: Tensor, num_items_in_batch: object = None) -> Tensor:
        """As transformers' Trainer asks for it; see ``distilled_loss``."""
        ends = ("start_logits", "end_logits")
        student = outputs["logits"] if "logits" in outputs else torch.stack([outputs[name] for name in ends], 1)
        return distilled_loss(student, targets, self.config.alpha, self.config.temperature)

    def _check_tokens(self, ours: Encoded, theirs: Encoded) -> None:
        """Where a place is a token of both."""
        # Windows that differ in number differ in their tokens before that.
        for number, (own, other) in enumerate(zip(ours.offsets, theirs.offsets, strict=False)):
            if not np.array_equal(own, other):
                raise ValueError(
                    f"{self.teacher.location} cuts row {number} into {len(other)} tokens other than the {len(own)} of "
                    "the student: to find entities or answers, a teacher needs the student's tokenizer, and texts "
                    f"have to be cut to what it takes: train.max_length {self.teacher.positions} or less"
                )


def distilled_loss(student: Tensor, targets: Tensor, alpha: float, temperature: float) -> Tensor:
    """What Hinton et al. 2015 minimise, a mean over the places that the teacher answered.

    alpha * CE(label, student) + (1 - alpha) * T^2 * KL(teacher / T || student / T); without the first where a place
    has no label.

    Args:
        student: logits [..., classes].
        targets: [..., 1 + classes], as this module's first lines say.
    """
    logits, classes, answers = student.flatten(0, -2), targets[..., 0].flatten(), targets[..., 1:].flatten(0, -2)
    asked = ~answers[:, 0].isnan()
    hard = F.cross_entropy(logits, classes.nan_to_num(nan=NOT_LABELLED).long(), reduction="sum")
    padding = answers[asked] == PADDING  # 0 in both, and so in their divergence
    theirs, ours = (
        (each[asked] / temperature).masked_fill(padding, PADDING).log_softmax(-1).masked_fill(padding, 0.0)
        for each in (answers, logits)
    )
    soft = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return (alpha * hard + (1 - alpha) * temperature**2 * soft) / asked.sum().clamp(min=1)


def collator(tokenizer: Any) -> Callable[[list[dict[str, Any]]], Any]:
    """Pads rows of a student to a batch: places with NaN, and classes that are tokens with PADDING."""

    def batch(rows: list[dict[str, Any]]) -> Any:
        most = max(row["labels"].shape[1] for row in rows)
        targets = [
            F.pad(torch.from_numpy(row["labels"]), (0, most - row["labels"].shape[1]), value=PADDING) for row in rows
        ]
        inputs = [{name: values for name, values in row.items() if name != "labels"} for row in rows]
        padded = tokenizer.pad(inputs, return_tensors="pt")
        padded["labels"] = pad_sequence(targets, batch_first=True, padding_value=torch.nan)
        return padded

    return batch


def _check_masks(*models: Candidate) -> None:
    for model in models:
        if (mask := model.tokenizer.mask_token) != MASK:
            raise ValueError(
                f"distill.augment masks words with {MASK}, which is {mask} to {model.location}: leave it out"
            )


def _taught(row: dict[str, Any], answer: Floats) -> dict[str, Any]:
    """A row with targets as this module's first lines say, of an answer [places, classes]."""
    classes = np.hstack([row[name] for name in TARGETS if name in row]).astype(np.float32)
    classes[classes == NOT_LABELLED] = np.nan
    read = {name: values for name, values in row.items() if name not in TARGETS}
    return read | {"labels": np.column_stack([classes, answer]).astype(np.float32)}
