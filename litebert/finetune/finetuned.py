"""A fine-tuned model, opened to be exported: a folder that launcher/finetune.py made."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from litebert.export.onnx_graph import SAMPLES, TOKENS
from litebert.export.parity import INPUTS
from litebert.finetune.candidate import Candidate
from litebert.finetune.card import USES, origin
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.model_folder import RECORD
from litebert.finetune.prediction import predicted
from litebert.finetune.tasks import Task
from litebert.finetune.trial import family_of, length_of

# By kind of task, the outputs of its model, SAMPLES or TOKENS.
OUTPUTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "sentence": {"logits": SAMPLES},
    "pair": {"logits": SAMPLES},
    "tagging": {"logits": TOKENS},
    "span": {"start_logits": TOKENS, "end_logits": TOKENS},
}


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model and what it was made of.

    Attributes:
        candidate: its encoder and tokenizer.
        record: what its RECORD says.
        facts: of the record, for a card.
        head: name of transformers' class of it.
        outputs: of OUTPUTS.
        config: that its scores are measured by: that of its fine-tuning, but in fp32.
    """

    candidate: Candidate
    record: Mapping[str, Any]
    facts: Mapping[str, str]
    head: str
    outputs: Mapping[str, Sequence[str]]
    config: FinetuneConfig

    @classmethod
    def read(cls, folder: Path) -> Finetuned:
        """Opens a folder. Raises ValueError where it is none of launcher/finetune.py, or its weights are pickled."""
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            facts, head, outputs = _facts(record), USES[record["kind"]].head, OUTPUTS[record["kind"]]
            config = FinetuneConfig(**{**record["settings"], "precision": "fp32"})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{folder}: it has no {RECORD} of a fine-tuned model: give a run, a checkpoint, or a folder of "
                "launcher/finetune.py, which takes any pretrained Hugging Face folder"
            ) from None
        return cls(Candidate.read(folder), record, facts, head, outputs, config)

    def model(self) -> Any:
        """The model, with its head, in fp32 and evaluation mode. Raises ValueError where its weights are not whole."""
        return self.candidate.finetuned(self.head).eval()

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
        **origin(record),
        "fine-tuned": f"{record['metric']} {record['scores']['test'][record['metric']]:.1%} on test, measured then; "
        f"{RECORD} has the settings and all scores",
    }
