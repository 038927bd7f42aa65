"""What DistilBERT's choices are worth: a teacher, students of half its layers, and the same without each part.

python benchmarks/study.py --output DIR [--text CORPUS ...] [--vocab vocab.txt] [--tasks FOLDER ...]
    [--teacher-steps 7000] [--student-steps 1600]

Every step is a command that users have: shards of BERT's Chinese vocabulary, without the tasks' test texts; a BERT of
12 layers, and an ALBERT of the same width and depth on the same batches; the BERT's answers from a service that records
them (codec hidden), to students on the same batches, two at a time, one of them narrow and one an ALBERT. Then each on
held-out documents, and fine-tuned on tasks, some for longer too, with floors: the same shapes from random weights. What
is done already stays, so it can be stopped, and started again with the same --output. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litebert.finetune.summary import Summary
from litebert.markdown import markdown
from litebert.plan.processor import processor
from litebert.train.commit import commit
from litebert.train.metrics import lines_of
from litebert.train.run import recorded
from litebert.train.trained import load_trained

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
TASKS = ("tnews10k", "thucnews_titles", "cluener")
SHAPE = {
    "model.hidden_size": 192,
    "model.embedding_size": 192,
    "model.num_heads": 3,
    "model.intermediate_size": 768,
    "model.max_positions": 128,
    "model.pooler": "false",
    "model.token_types": 0,
    "model.dropout": 0.0,
    "data.global_batch": 32,
    "data.micro_tokens": 8192,
    "optimizer.betas": "[0.9, 0.98]",
    "optimizer.clip_norm": 1.0,
    "train.log_every": 25,
    "train.evaluate_samples": 1024,
    "train.keep_every": 0,
}
TEACHER = {
    **SHAPE,
    "objective.sop": 0,
    "optimizer.lr": 5e-4,
    "train.evaluate_every": 500,
    "train.checkpoint_every": 250,
}
PRETRAINED: Mapping[str, Mapping[str, object]] = {
    "teacher": {},
    "albert of 12": {
        "model.embedding_size": 32,
        "model.sharing": "all",
        "optimizer.lr": 8e-4,
        "train.steps": 4000,
        "schedule.warmup_steps": 428,
    },
}
STUDENT = {
    **SHAPE,
    "optimizer.lr": 5e-4,
    "train.evaluate_every": 400,
    "train.checkpoint_every": 400,
    "distill.patience": 600,
}
RANDOM = {"distill.start": "random"}
NARROW = {
    **RANDOM,
    "model.num_layers": 4,
    "model.hidden_size": 128,
    "model.embedding_size": 128,
    "model.num_heads": 2,
    "model.intermediate_size": 512,
    "optimizer.lr": 1e-3,
}
ALBERT = {**RANDOM, "model.embedding_size": 32, "model.sharing": "all", "optimizer.lr": 1e-3}
STUDENTS: Mapping[str, Mapping[str, object]] = {
    "student": {},
    "control": {**RANDOM, "distill.ce": 0, "distill.cos": 0},
    "without ce": {"distill.ce": 0},
    "without cos": {"distill.cos": 0},
    "without mlm": {"objective.mlm": 0},
    "from random weights": RANDOM,
    "narrow": NARROW,
    "albert": ALBERT,
}
PAPER = {"without ce": -2.96, "without cos": -1.46, "without mlm": -0.31, "from random weights": -3.69}  # of GLUE
LABELS = {  # in the table
    "control": "control: no teacher",
    "narrow": "narrow, from random weights",
    "albert": "ALBERT, from random weights",
    "student's floor": "random weights of the student's shape",
}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SHORT = {"train.samples": 2000, "train.epochs": 3, "train.seeds": 3, "train.learning_rates": "[3e-4, 1e-3]"}
LONG = {"train.samples": 4000, "train.epochs": 4, "train.seeds": 3, "train.learning_rates": "[1e-4, 3e-4]"}
LONGER = ("student", "teacher", "control", "narrow", "albert of 12")
WARMUP = {"train.warmup": 0.1}  # as its figures were made
# Settings, who is fine-tuned by them, and whose shape from random weights is too.
BUDGETS = {
    "tasks": (SHORT | WARMUP, ("teacher", *STUDENTS), ("student",)),
    "longer": (LONG | WARMUP, LONGER, ("student", "narrow", "albert of 12")),
}


def run(command: list[object], log: Path) -> None:
    """Runs it to its end; what it says goes to the end of the file."""
    with log.open("a") as file:
        done = subprocess.run([*map(str, command)], cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"study: {command[1]} ended with exit code {done.returncode}; see {log}")


def flags(settings: Mapping[str, object]) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key}", str(value))]


def length(steps: int) -> dict[str, object]:
    """Of a run; a fourteenth of it warms up."""
    return {"train.steps": steps, "schedule.warmup_steps": steps // 14}


class Study:
    """Its stages, each of which does what is not done yet.

    Attributes:
        output: where everything is kept.
        tasks: folders to fine-tune on.
    """

    def __init__(self, output: Path, tasks: list[Path]) -> None:
        self.output, self.tasks = output, tasks
        self._tokenizer, self._shards = output / "tokenizer", output / "shards"

    def shards(self, text: list[Path], vocab: Path) -> None:
        """Of the text, without what the tasks test."""
        tests = [str(found) for task in self.tasks for found in task.glob("test.*")]
        build: list[object] = ["--input", *text, "--tokenizer", self._tokenizer, "--output", self._shards]
        build += ["--pairs.objective", "none", "--clean.marks", "plain", "--masks.copies", 2, "--workers", 2]
        log, verbs = self.output / "data.log", [sys.executable, "-m", "data_tools"]
        if not self._tokenizer.exists():
            run([*verbs, "tokenizer", "--wordpiece", vocab, "--output", self._tokenizer], log)
        if not self._shards.exists():
            run([*verbs, "build", *build, "--dedup.evaluation.files", json.dumps(tests)], log)

    def pretrained(self, steps: int) -> None:
        """Those without a teacher, one after the other: two ranks, each a core's."""
        recipe = ROOT / "launcher/recipes/bert_base.yaml"
        command = [Path(sys.executable).with_name("deepspeed"), "--num_gpus", 2, ROOT / "launcher/pretrain.py"]
        for name, changes in PRETRAINED.items():
            given = ["--config", recipe, "--data", self._shards, "--run", self.model(name)]
            if not (self.model(name) / "done.json").exists():
                log = self.output / f"{self.model(name).name}.log"
                run([*command, *given, *flags({**TEACHER, **length(steps), **changes})], log)

    def students(self, steps: int, together: int) -> None:
        """All from one teacher, which answers each block once."""
        todo = [name for name in STUDENTS if not (self.model(name) / "done.json").exists()]
        if todo:
            with self._served() as fleet, ThreadPoolExecutor(together) as pool:
                list(pool.map(lambda name: self._student(name, steps, fleet), todo))

    def _student(self, name: str, steps: int, fleet: Path) -> None:
        settings = {**STUDENT, **STUDENTS[name], **length(steps)}
        given = ["--data", self._shards, "--run", self.model(name), "--fleet", fleet, *flags(settings)]
        given += [] if STUDENTS[name].get("distill.start") == "random" else ["--teacher", self.model("teacher")]
        recipe = ROOT / "launcher/recipes/distil_6l.yaml"
        log = self.output / f"{self.model(name).name}.log"
        run([sys.executable, ROOT / "launcher/distill.py", "--config", recipe, *given], log)

    @contextlib.contextmanager
    def _served(self) -> Iterator[Path]:
        """Where the teacher is found, for as long as this lasts."""
        fleet = self.output / "fleet"
        given = ["--teacher", self.model("teacher"), "--data", self._shards, "--codec.kind", "hidden"]
        given += ["--serve", fleet, "--record", self.output / "answers", "--copies", 0]
        command = [sys.executable, ROOT / "launcher/teach.py", *given]
        with (self.output / "serving.log").open("a") as log:
            serving = subprocess.Popen([*map(str, command)], cwd=ROOT, env=ENVIRONMENT, stdout=log, stderr=log)
        try:
            yield fleet
        finally:
            serving.terminate()
            serving.wait()

    def heldout(self) -> dict[str, dict[str, Any]]:
        """Figures on the same held-out samples, which each run looked at as it ended, its size and its commit."""
        return {name: self._last(self.model(name)) for name in (*PRETRAINED, *STUDENTS)}

    def _last(self, run: Path) -> dict[str, Any]:
        figures = [line for line in lines_of(run) if "heldout_mlm" in line][-1]
        made = {"parameters": load_trained(run).model.parameter_count(), "commit": recorded(run).get("commit", "")}
        return {**figures, **made}

    def finetuned(self, budget: str, together: int) -> dict[str, Any]:
        """Scores on the tasks, and of some their floors'."""
        settings, names, floors = BUDGETS[budget]
        with ThreadPoolExecutor(together) as pool:
            found = pool.map(lambda name: self._evaluated(name, budget, settings, name in floors), names)
            return dict(zip(names, found, strict=True))

    def _evaluated(self, name: str, budget: str, settings: Mapping[str, object], floor: bool) -> Any:
        given = ["--task", *self.tasks, *flags(settings), *["--floor"] * floor]
        output = self.output / f"{self.model(name).name}.{budget}.json"
        if not output.exists():
            command = [sys.executable, ROOT / "launcher/evaluate.py", self.model(name), *given, "--output", output]
            run(command, output.with_suffix(".log"))
        return json.loads(output.read_text())

    def model(self, name: str) -> Path:
        return self.output / name.replace(" ", "-")


def rows_of(heldout: Mapping[str, Any], tasks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of a table, in the order of its models, floors last."""
    floors = {
        f"{name}'s floor": scores(found["tasks"], "floor")
        for name, found in tasks.items()
        if all("floor" in task for task in found["tasks"])
    }
    return {name: row(name, heldout, tasks) for name in tasks} | floors


def row(name: str, heldout: Mapping[str, Any], tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Of the table: losses in nats, scores in per cent with half the widths of their intervals, and by seed.

    The commit is that which the model's pretraining or distillation began at.
    """
    return {
        "parameters": heldout[name]["parameters"],
        "mlm_loss": round(heldout[name]["heldout_mlm"], 4),
        "kl": round(heldout[name].get("heldout_kl", 0.0), 4),
        "agreement": round(heldout[name].get("heldout_agreement", 0.0), 4),
        **scores(tasks[name]["tasks"], "model"),
        "paper": PAPER.get(name),
        "commit": heldout[name]["commit"],
    }


def scores(tasks: Sequence[Mapping[str, Any]], arm: str) -> dict[str, Any]:
    """Of each task, and of their mean, of which each seed gives one."""
    by_seed = {task["task"]: task[arm]["test"][task["metric"]]["scores"] for task in tasks}
    means = [sum(seed) / len(seed) for seed in zip(*by_seed.values(), strict=True)]
    return {
        "tasks": {task: percent(each) for task, each in by_seed.items()},
        "mean": percent(means),
        "seeds": {task: [round(100 * score, 2) for score in each] for task, each in by_seed.items()},
    }


def percent(by_seed: Sequence[float]) -> list[float]:
    summary = Summary.of(by_seed)
    low, high = summary.interval or (math.nan, math.nan)
    return [round(100 * summary.mean, 2), round(50 * (high - low), 2)]


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown; the last two columns are differences from the student, here and in the paper."""
    tasks, (student, _) = list(rows["student"]["tasks"]), rows["student"]["mean"]
    heads = ["", "MLM loss", "KL", "agreement", *tasks, "mean", "from the student", "in the paper"]
    lines = [heads]
    for name, each in rows.items():
        held = [f"{each[key]:.3f}" if each.get(key) else "" for key in ("mlm_loss", "kl")]
        agreement = f"{each['agreement']:.1%}" if each.get("agreement") else ""
        shown = ["{:.1f} ± {:.1f}".format(*score) for score in (*each["tasks"].values(), each["mean"])]
        paper = f"{each['paper']:+.2f}" if each.get("paper") else ""
        lines.append([LABELS.get(name, name), *held, agreement, *shown, f"{each['mean'][0] - student:+.2f}", paper])
    return markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", default=[SHARED / "corpus/pretrain.jsonl.xz"])
    parser.add_argument("--vocab", type=Path, default=SHARED / "models/vocab-zh-21128.txt")
    parser.add_argument("--tasks", type=Path, nargs="+", default=[SHARED / "tasks" / name for name in TASKS])
    parser.add_argument("--output", type=Path, required=True, help="folder for shards, runs and figures")
    parser.add_argument("--teacher-steps", type=int, default=7000, help="of 32 samples")
    parser.add_argument("--student-steps", type=int, default=1600, help="of 32 samples")
    parser.add_argument("--together", type=int, default=2, help="students trained, and models fine-tuned, at a time")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    study = Study(options.output.resolve(), options.tasks)
    study.shards(options.text, options.vocab)
    study.pretrained(options.teacher_steps)
    study.students(options.student_steps, options.together)
    heldout = study.heldout()
    tables = {budget: rows_of(heldout, study.finetuned(budget, options.together)) for budget in BUDGETS}
    for rows in tables.values():
        print(table(rows), end="\n\n")
    asked = {
        "steps": {"teacher": options.teacher_steps, "students": options.student_steps},
        "pretrained": {
            name: {**TEACHER, **length(options.teacher_steps), **changes} for name, changes in PRETRAINED.items()
        },
        "students": {name: {**STUDENT, **changes} for name, changes in STUDENTS.items()},
        **{budget: settings for budget, (settings, *_) in BUDGETS.items()},
    }
    made = {"torch": version("torch"), "processor": processor(), "commit": commit()}
    print(json.dumps({**tables, "settings": asked, **made}))


if __name__ == "__main__":
    main()
