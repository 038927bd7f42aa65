"""Task distillation: a student learns a task from a fine-tuned teacher's logits too, on texts without labels as well.

The teacher answers all texts once, before training. A row's ``labels`` are then float32 [places, 1 + outputs]: the
class, and the teacher's logits; a place is the row, or each of its tokens. NaN stands where there is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data_tools.progress import Progress
from data_tools.shards.tar import sha256
from litebert.finetune.augmentation import MASK, augmented
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.examples import Labelled, Tagged, unlabelled
from litebert.finetune.family import NOT_LABELLED, Encoded, Family, Floats
from litebert.finetune.prediction import device, predicted
from litebert.finetune.tasks import Task

PART = 4096  # rows that the teacher is asked at a time

Places = npt.NDArray[np.bool_]


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
    texts: Sequence[Labelled | Tagged]
    files: tuple[str, ...]

    @classmethod
    def of(
        cls, teacher: Path, task: Task, family: Family, config: TaskDistillConfig, files: Sequence[Path]
    ) -> Teaching:
        """Opens a folder of launcher/finetune.py, or any like it, and files in the task's format.

        Raises ValueError where the teacher's labels are not the task's, or it cannot teach such a task.
        """
        if task.kind == "span":
            raise ValueError(f"{task.name} is a span task: a teacher is for sentence, pair and tagging tasks")
        opened = Candidate.read(teacher)
        if opened.labels != family.outputs:
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

    def more(self, task: Task, train: Sequence[Any]) -> list[Labelled | Tagged]:
        """Texts to answer beside those of train, each once, and none of dev or test."""
        seen = {one.bare for split in (train, task.dev, task.test) for one in split}
        new = [one for one in dict.fromkeys(self.texts) if one not in seen]
        config = self.config
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
        teacher, count = self.teacher, len(encoded.rows)
        if self.config.augment:
            _check_masks(teacher, student)
        length = min(config.max_length or family.max_length, teacher.positions, student.positions)
        theirs = family.encode(examples, teacher.tokenizer, length)
        self._check_tokens(encoded, theirs)
        model = teacher.finetuned(family.head).to(device())
        asked = _asked(encoded)
        rows: list[dict[str, Any]] = []
        with Progress(f"{teacher.location.name} answers", "rows", count) as progress:
            for begin in range(0, count, PART):
                part = slice(begin, begin + PART)
                (logits,) = predicted(model, teacher.tokenizer, family, theirs.rows[part], config)
                if not np.isfinite(logits).all():
                    raise ValueError(
                        f"{teacher.location}: its answers are not finite: give a teacher that learnt its task"
                    )
                rows += [
                    row | {"labels": _targets(row["labels"], answer, places)}
                    for row, answer, places in zip(encoded.rows[part], logits, asked[part], strict=True)
                ]
                progress.advance(len(logits))
        return dataclasses.replace(encoded, rows=rows)

    def loss(self, outputs: Any, targets: Tensor, num_items_in_batch: object = None) -> Tensor:
        """As transformers' Trainer asks for it; see ``distilled_loss``."""
        return distilled_loss(outputs.logits, targets, self.config.alpha, self.config.temperature)

    def _check_tokens(self, ours: Encoded, theirs: Encoded) -> None:
        for number, (own, other) in enumerate(zip(ours.offsets, theirs.offsets, strict=True)):
            if not np.array_equal(own, other):
                raise ValueError(
                    f"{self.teacher.location} cuts text {number} into {len(other)} tokens other than the {len(own)} of "
                    "the student: to find entities, a teacher needs the student's tokenizer, and to take texts as long"
                )


def distilled_loss(student: Tensor, targets: Tensor, alpha: float, temperature: float) -> Tensor:
    """What Hinton et al. 2015 minimise, a mean over the places that the teacher answered.

    alpha * CE(label, student) + (1 - alpha) * T^2 * KL(teacher / T || student / T); without the first where a place
    has no label.

    Args:
        student: logits [..., outputs].
        targets: [..., 1 + outputs], as this module's first lines say.
    """
    logits, classes, answers = student.flatten(0, -2), targets[..., 0].flatten(), targets[..., 1:].flatten(0, -2)
    asked = ~answers[:, 0].isnan()
    hard = F.cross_entropy(logits, classes.nan_to_num(nan=NOT_LABELLED).long(), reduction="sum")
    theirs, ours = ((each[asked] / temperature).log_softmax(-1) for each in (answers, logits))
    soft = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return (alpha * hard + (1 - alpha) * temperature**2 * soft) / asked.sum().clamp(min=1)


def collator(tokenizer: Any) -> Callable[[list[dict[str, Any]]], Any]:
    """Pads rows of a student to a batch; where there are no places, targets are NaN."""

    def batch(rows: list[dict[str, Any]]) -> Any:
        targets = [torch.from_numpy(row["labels"]) for row in rows]
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


def _asked(encoded: Encoded) -> list[Places]:
    """Of each row, whether the teacher is asked at a place: the row, or its tokens, if they stand for text."""
    if not len(encoded.offsets):
        return [np.ones(1, bool)] * len(encoded.rows)
    return [offsets[:, 0] < offsets[:, 1] for offsets in encoded.offsets]


def _targets(labels: Any, logits: Floats, asked: Places) -> Floats:
    """Of a row: [places, 1 + outputs]; logits may be padded."""
    classes = np.atleast_1d(np.asarray(labels, np.float32))
    answers = np.atleast_2d(logits)[: len(asked)]
    targets = np.column_stack([classes, np.where(asked[:, None], answers, np.nan)]).astype(np.float32)
    targets[classes == NOT_LABELLED, 0] = np.nan
    return targets
