"""A fine-tuned model, opened to be exported: a folder that launcher/finetune.py made."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from litebert.evaluate.candidate import Candidate
from litebert.evaluate.classification import Classification
from litebert.evaluate.config import FinetuneConfig
from litebert.evaluate.finetuned import RECORD
from litebert.evaluate.finetuning import family_of, length_of
from litebert.evaluate.prediction import predicted
from litebert.evaluate.span import Span
from litebert.evaluate.tagging import Tagging
from litebert.evaluate.tasks import Task
from litebert.export.onnx_graph import SAMPLES, TOKENS
from litebert.export.parity import INPUTS


@dataclasses.dataclass(frozen=True)
class Use:
    """What a kind of task is to a file and its card.

    Attributes:
        head: name of transformers' class.
        outputs: by name, SAMPLES or TOKENS.
        pipeline: Hugging Face's name of it.
        texts, answer: Python, what is asked and what is made of the outputs.
    """

    head: str
    outputs: Mapping[str, Sequence[str]]
    pipeline: str
    texts: str
    answer: str


_SENTENCE = Use(
    Classification.head,
    {"logits": SAMPLES},
    "text-classification",
    '"今天天气很好。"',
    "labels[int(outputs[0].argmax())]",
)
USES = {
    "sentence": _SENTENCE,
    "pair": dataclasses.replace(_SENTENCE, texts='"今天天气很好。", "今天下雨。"'),
    "tagging": Use(
        Tagging.head,
        {"logits": TOKENS},
        "token-classification",
        '"记者在北京。"',
        "[labels[int(tag)] for tag in outputs[0][0].argmax(-1)]",
    ),
    "span": Use(
        Span.head,
        {"start_logits": TOKENS, "end_logits": TOKENS},
        "question-answering",
        '"谁在北京？", "记者在北京。"',
        "int(outputs[0].argmax()), int(outputs[1].argmax())",
    ),
}


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model and what it was made of.

    Attributes:
        candidate: its encoder and tokenizer.
        record: what its RECORD says.
        facts: of the record, for a card.
        use: of its kind of task.
        config: that its scores are measured by: that of its fine-tuning, but in fp32.
    """

    candidate: Candidate
    record: Mapping[str, Any]
    facts: Mapping[str, str]
    use: Use
    config: FinetuneConfig

    @classmethod
    def read(cls, folder: Path) -> Finetuned:
        """Opens a folder. Raises ValueError where it is none of launcher/finetune.py, or its weights are pickled."""
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            facts, use = _facts(record), USES[record["kind"]]
            config = FinetuneConfig(**{**record["settings"], "precision": "fp32"})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{folder}: it has no {RECORD} of a fine-tuned model: give a run, a checkpoint, or a folder of "
                "launcher/finetune.py"
            ) from None
        return cls(Candidate.read(folder), record, facts, use, config)

    def model(self) -> Any:
        """The model, with its head, in fp32 and evaluation mode. Raises ValueError where its weights are not whole."""
        return self.candidate.finetuned(self.use.head).eval()

    def inputs(self, model: Any) -> list[str]:
        """Of INPUTS, those that its tokenizer gives and a model takes."""
        taken = inspect.signature(model.forward).parameters
        return [name for name in INPUTS if name in taken and name in self.candidate.tokenizer.model_input_names]

    def task(self, folder: Path) -> Task:
        """The task that it was fine-tuned on. Raises ValueError where the folder holds another."""
        task = Task.read(folder, self.record["kind"])
        if task.fingerprint != self.record["fingerprint"]:
            raise ValueError(
                f"{folder} has the fingerprint {task.fingerprint[:12]}, and {self.candidate.location} was fine-tuned "
                f"on {self.record['task']}, {self.record['fingerprint'][:12]}: give the files of that task"
            )
        return task

    def scores(self, models: Sequence[nn.Module], task: Task) -> list[float]:
        """What models score on a task's test by its metric, as fine-tuning measures it; shares of 1."""
        family, tokenizer = family_of(task), self.candidate.tokenizer
        encoded = family.encode(task.test, tokenizer, length_of(family, self.candidate, self.config))
        said = [predicted(model, tokenizer, family, encoded.rows, self.config) for model in models]
        return [family.scores(task.test, encoded, outputs)[family.metric] for outputs in said]


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        "task": f"{record['task']}, a {record['kind']} task; fingerprint {record['fingerprint']}",
        "labels": ", ".join(record["labels"]) or "none",
        "begun as": f"{record['model']}, fingerprint {record['model_fingerprint']}",
        "fine-tuned": f"{record['metric']} {record['scores']['test'][record['metric']]:.1%} on test, measured then; "
        f"{RECORD} has the settings and all scores",
    }
