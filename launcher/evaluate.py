"""Measure a model on held-out documents: python launcher/evaluate.py RUN --data SHARDS [--teacher MODEL],
or fine-tuned on tasks: python launcher/evaluate.py MODEL --task TASK... [--floor] [--shuffled] [--train.epochs 3 ...],
with --teacher FINETUNED... also as a student of a model of launcher/finetune.py for each task.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from litebert.data.split import Split
from litebert.distill.teacher import Teacher
from litebert.evaluate.heldout import evaluate_heldout
from litebert.evaluate.intrinsic import evaluate_intrinsic, groups_table
from litebert.evaluate.output import check, trials_folder
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.examples import KINDS
from litebert.finetune.tasks import Task
from litebert.report.figures import KINDS as FIGURES
from litebert.train.run import write
from litebert.train.trained import load_trained

OF_DATA = ("model", "data", "teacher", "output")  # what is read with --data
TEACHER = "with --data, models to compare its words with; with --task, fine-tuned models to learn from"


def parser() -> ArgumentParser:
    """Of the command line."""
    made = ArgumentParser(prog="evaluate", description=__doc__, exit_on_error=False, allow_abbrev=False)
    made.add_argument("model", type=Path, help="a run; for tasks also a checkpoint or a Hugging Face folder")
    made.add_argument("--data", type=Path, help="folder of shards, with its held-out split")
    made.add_argument("--teacher", type=Path, nargs="+", default=[], help=TEACHER)
    made.add_argument("--task", type=Path, nargs="+", default=[], help="folders of tasks to fine-tune on")
    made.add_argument("--kind", choices=KINDS, help="of the tasks, where their fields do not tell it")
    made.add_argument("--floor", action="store_true", help="also random weights of its shape, on the same budget")
    made.add_argument("--shuffled", action="store_true", help="also with labels of other examples: chance")
    made.add_class_arguments(FinetuneConfig, "train")
    made.add_argument("--unlabelled", type=Path, nargs="+", default=[], help="files of more texts for a task's teacher")
    made.add_class_arguments(TaskDistillConfig, "distill")
    made.add_argument("--output", type=Path, help="JSON file to write; older figures are replaced")
    return made


def main(argv: Sequence[str]) -> int:
    """Print the figures, and write them to a file if one is named."""
    try:
        options = parser().parse_args(list(argv))
        if bool(options.data) == bool(options.task):
            raise ValueError("give either --data, with held-out documents, or --task, to fine-tune on")
        _check(options)
        (_heldout if options.data else _tasks)(options)
    except (ValueError, OSError, ArgumentError) as error:
        print(f"evaluate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _check(options: Namespace) -> None:
    """Raises ValueError where something that is given would not be read, or not be written after hours of work."""
    given, usual = (vars(each.as_flat()) for each in (options, parser().parse_args([str(options.model)])))
    strange = [f"--{name}" for name, value in given.items() if name not in OF_DATA and value != usual[name]]
    if options.data and strange:
        raise ValueError(f"{', '.join(strange)}: with --data nothing is fine-tuned; leave out what is for --task")
    if options.output:
        fields, _ = FIGURES["held-out figures" if options.data else "scores on tasks"]
        check(options.output, fields)


def _heldout(options: Namespace) -> None:
    trained = load_trained(options.model)
    train, heldout = Split(options.data, "train"), Split(options.data, "heldout")
    if heldout.tokenizer_fingerprint != trained.tokenizer.fingerprint:
        raise ValueError(f"{options.data} was made with another tokenizer than {options.model}; give its own shards")
    if heldout.fingerprint != trained.data_fingerprint:
        print(f"evaluate: {options.data} is not what {options.model} was trained on: it may hold out", file=sys.stderr)
        print("evaluate: documents that were trained on, and the baseline is of its own text", file=sys.stderr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = [Teacher.load(path, trained.tokenizer.pieces) for path in options.teacher]
    teachers = [teacher.to(device, torch.float32) for teacher in loaded]
    figures = evaluate_heldout(trained.model, train, heldout, device, teachers)
    intrinsic = evaluate_intrinsic(trained.model, train, heldout, trained.tokenizer, device)
    found = {"run": str(options.model), "step": trained.step}
    found |= dataclasses.asdict(figures) | dataclasses.asdict(intrinsic)
    text = _lines(found)
    if options.output:
        write(options.output, text + "\n")
    print(text, flush=True)
    print(groups_table(intrinsic, figures.sop_accuracy), file=sys.stderr)


def _lines(found: dict[str, Any]) -> str:
    """An object as JSON, a line a key."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _tasks(options: Namespace) -> None:
    # transformers' trainer takes seconds to import
    from transformers.utils import logging

    from litebert.finetune.candidate import Candidate
    from litebert.finetune.experiment import evaluate
    from litebert.finetune.model_folder import teachings
    from litebert.finetune.results import remarks, table

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config, distill = FinetuneConfig(**options.train.as_dict()), TaskDistillConfig(**options.distill.as_dict())
    if not options.teacher and (options.unlabelled or distill != TaskDistillConfig()):
        raise ValueError("--unlabelled and --distill are for a student: give its --teacher")
    if options.unlabelled and len(options.task) > 1:
        raise ValueError("--unlabelled is in the format of one task: give one --task")
    kept = trials_folder()
    if config.seeds == 2:
        print("evaluate: intervals of 2 seeds say next to nothing: give --train.seeds 3 or more", file=sys.stderr)
    tasks = [Task.read(folder, options.kind) for folder in options.task]
    for remark in filter(None, (task.remark for task in tasks)):
        print(f"evaluate: {remark}", file=sys.stderr)
    taught = teachings(options.teacher, tasks, distill, options.unlabelled) if options.teacher else {}
    arms = [arm for arm in ("floor", "shuffled") if options[arm]]
    with Candidate.opened(options.model) as candidate:
        results = evaluate(candidate, tasks, config, arms, kept, taught)
    if options.output:
        write(options.output, json.dumps(results, indent=1) + "\n")
    for facts in results["tasks"]:
        for line in remarks(facts):
            print(f"evaluate: {line}", file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
