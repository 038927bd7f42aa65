"""Fine-tunes a model on a task and keeps it: python launcher/finetune.py MODEL --task TASK --output DIR

The learning rate is chosen on dev with the first seed; of all seeds the best on dev is kept, as a Hugging Face folder.
--teacher FINETUNED, such a folder of a larger model, is learnt from beside the labels; --unlabelled FILE... has more
texts for it to answer, in the task's format, and --distill.augment 3 three changed copies of every text.
See docs/evaluation.md.
"""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from litebert.evaluate.output import trials_folder
from litebert.finetune.config import FinetuneConfig, TaskDistillConfig
from litebert.finetune.examples import KINDS
from litebert.finetune.tasks import Task


def parser() -> ArgumentParser:
    """Of the command line."""
    made = ArgumentParser(prog="finetune", description=__doc__, exit_on_error=False, allow_abbrev=False)
    made.add_argument("model", type=Path, help="a run, a checkpoint or a Hugging Face folder")
    made.add_argument("--task", type=Path, required=True, help="folder of the task")
    made.add_argument("--output", type=Path, required=True, help="folder to make")
    made.add_argument("--kind", choices=KINDS, help="of the task, where its fields do not tell it")
    made.add_class_arguments(FinetuneConfig, "train")
    made.add_argument("--teacher", type=Path, help="a folder that this has made of another model, to learn from")
    made.add_argument("--unlabelled", type=Path, nargs="+", default=[], help="files of more texts for the teacher")
    made.add_class_arguments(TaskDistillConfig, "distill")
    return made


def main(argv: Sequence[str]) -> int:
    """Write the folder, and say what it scores."""
    try:
        print(_finetuned(parser().parse_args(list(argv))))
    except (ValueError, OSError, ArgumentError) as error:
        print(f"finetune: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _finetuned(options: Namespace) -> str:
    # transformers' trainer takes seconds to import
    from transformers.utils import logging

    from litebert.finetune.candidate import Candidate
    from litebert.finetune.distillation import Teaching
    from litebert.finetune.model_folder import finetune
    from litebert.finetune.results import remarks
    from litebert.finetune.trial import family_of

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config, distill = FinetuneConfig(**options.train.as_dict()), TaskDistillConfig(**options.distill.as_dict())
    if not options.teacher and (options.unlabelled or distill != TaskDistillConfig()):
        raise ValueError("--unlabelled and --distill are for a student: give its --teacher")
    kept = trials_folder()
    task = Task.read(options.task, options.kind)
    if task.remark:
        print(f"finetune: {task.remark}", file=sys.stderr)
    teaching = None
    if options.teacher:
        teaching = Teaching.of(options.teacher, task, family_of(task), distill, options.unlabelled)
    with Candidate.opened(options.model) as candidate:
        made = finetune(candidate, task, config, kept, teaching, options.output)
    for line in remarks({**made, "model": made["all_seeds"]}):
        print(f"finetune: {line}", file=sys.stderr)
    metric = made["metric"]
    dev, test = (made["scores"][split][metric] for split in ("dev", "test"))
    return (
        f"{options.output}: {metric} {dev:.1%} on dev, {test:.1%} on test; learning rate {made['learning_rate']:g}, "
        f"seed {made['seed']}, the best of {config.seeds} on dev, whose mean on test is "
        f"{made['all_seeds']['test'][metric]['mean']:.1%}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
