"""A fine-tuned model as a Hugging Face folder: safetensors, config, tokenizer, model card, and what it was made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from litebert.export.folder import new_folder
from litebert.finetune.candidate import Candidate
from litebert.finetune.card import card, origin
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.distillation import Teaching
from litebert.finetune.experiment import Best, Experiment, facts_of, versions
from litebert.finetune.prediction import device, predicted
from litebert.finetune.submission import submission
from litebert.finetune.tasks import Task
from litebert.finetune.trial import MEASURED, family_of, length_of

RECORD = "litebert.json"


def finetune(
    candidate: Candidate, task: Task, config: FinetuneConfig, kept: Path, teaching: Teaching | None, output: Path
) -> dict[str, Any]:
    """Fine-tunes a model with every seed, and writes the one that is best on dev.

    What it says of the file of test, labelled or not, is written beside it, as CLUE takes it.

    Args:
        kept: folder that trials are left in, for launcher/evaluate.py.
        output: folder to make.

    Returns:
        what its RECORD says; scores are shares of 1.

    Raises:
        ValueError: the folder exists, or the task cannot be learnt so; then nothing is written.
    """
    family, best = family_of(task), Best()
    length_of(family, candidate, config)
    with new_folder(output) as folder:
        outcome = Experiment(candidate, task, config, kept, teaching=teaching, best=best).outcome()
        assert best.trial is not None
        record = facts_of(task, config) | {
            "labels": list(task.labels),
            "model": candidate.location.resolve().name,
            "model_fingerprint": candidate.fingerprint,
            "settings": dataclasses.asdict(config.resolved),
            "teaching": teaching.identity if teaching else None,
            "learning_rate": best.learning_rate,
            "seed": best.seed,
            "scores": best.trial.scores,
            "all_seeds": dataclasses.asdict(outcome),
            "device": device(),
            "versions": versions(),
        }
        predictions, said = _said(candidate, task, config, best.model)
        (folder / predictions).write_text(said, encoding="utf-8")
        best.model.save_pretrained(folder)
        candidate.tokenizer.backend_tokenizer.no_truncation()  # which training set: texts may be longer in use
        candidate.tokenizer.backend_tokenizer.no_padding()
        candidate.tokenizer.save_pretrained(folder)
        (folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        text = card(record, best.model, candidate.positions, _facts(record), output.name, "transformers")
        (folder / "README.md").write_text(text, encoding="utf-8")
    return record


def _said(candidate: Candidate, task: Task, config: FinetuneConfig, model: Any) -> tuple[str, str]:
    """The name and the text of a file of predictions."""
    family, tokenizer = family_of(task), candidate.tokenizer
    encoded = family.encode(task.asked, tokenizer, length_of(family, candidate, config))
    outputs = predicted(model, tokenizer, family, encoded.rows, config)
    return submission(task.asked, family.said(task.asked, encoded, outputs))


def teachings(
    folders: Sequence[Path], tasks: Sequence[Task], config: TaskDistillConfig, files: Sequence[Path]
) -> dict[str, Teaching]:
    """What fine-tuned folders teach, by the fingerprint of the task that their RECORD names.

    Raises ValueError where one has none, or there is not one for each task.
    """
    found = {_fingerprint(folder): folder for folder in folders}
    if names := ", ".join(task.name for task in tasks if task.fingerprint not in found):
        raise ValueError(f"no teacher for {names}: give one for each task, that was fine-tuned on the same files")
    if len(folders) != len(tasks):
        raise ValueError(f"{len(folders)} teachers, and {len(tasks)} to be taught: give one for each task")
    return {
        task.fingerprint: Teaching.of(found[task.fingerprint], task, family_of(task), config, files) for task in tasks
    }


def _fingerprint(folder: Path) -> str:
    try:
        return str(json.loads((folder / RECORD).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{folder}: no {RECORD} that names its task: give a folder of launcher/finetune.py") from None


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    """What a card says of the fine-tuning."""
    settings, metric = record["settings"], record["metric"]
    return {
        **origin(record),
        "examples": ", ".join(f"{count:,} of {split}" for split, count in record["sizes"].items()),
        "fine-tuning": f"{settings['epochs']} epochs of batches of {settings['batch']}, AdamW, "
        f"learning rate {record['learning_rate']:g}, seed {record['seed']}, {settings['precision']}",
        **_teacher(record["teaching"]),
        **{f"{metric} on {split}": f"{record['scores'][split][metric]:.1%}" for split in MEASURED},
        f"{metric} on test, mean of all seeds": f"{record['all_seeds']['test'][metric]['mean']:.1%}",
        **_confused(record["all_seeds"]["confused"]),
        "chosen": "learning rate and seed by the score on dev; dev flatters, test decided nothing",
    }


def _confused(pairs: Sequence[Sequence[str | int]]) -> dict[str, str]:
    named = ", ".join(f"{said} for {right} ({count})" for right, said, count in pairs)
    return {"most often mistaken on test": named} if pairs else {}


def _teacher(teaching: Mapping[str, Any] | None) -> dict[str, str]:
    if not teaching:
        return {}
    settings = ", ".join(f"{name} {value:g}" for name, value in teaching["settings"].items())
    return {
        "teacher": f"fingerprint {teaching['teacher']}; {settings}; {len(teaching['unlabelled'])} files without labels"
    }
