"""Every command of the README, typed one after the other in a folder of its own; and what Slurm changes: nothing."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.bench import REPOSITORY, environment, free_port
from tests.litebert.report.made_up import Page

pytestmark = pytest.mark.distributed

PAGE = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SAMPLE = REPOSITORY.parent / "shared" / "corpus" / "sample.jsonl.xz"
NEEDED = ("benchmarks", "data_tools", "ds_configs", "launcher", "litebert", "slurm")
FEW_STEPS = " --train.steps 8 --schedule.warmup_steps 2 --train.checkpoint_every 4"
TINY = FEW_STEPS + (
    " --model.hidden_size 32 --model.embedding_size 16 --model.num_heads 2 --model.intermediate_size 64"
    " --data.global_batch 16"
)


class Desk:
    """Where somebody types what the page says, after some changes that make it short.

    Attributes:
        folder: that a clone would be.
    """

    def __init__(self, folder: Path, nodes: int, changes: dict[str, str]) -> None:
        self.folder = folder
        self._changes = changes | {
            r"--nodes=2": f"--nodes={nodes}",
            r"--num_gpus 2": f"--master_port {free_port()} --num_gpus {nodes}",
            r"(?:evaluate|finetune)\.py .*--task \S+": r"\g<0> --train.samples 40 --train.epochs 1 --train.seeds 2"
            " --train.learning_rates [1e-3]",
            r"^(\S+tensorboard .*) &.*$": r"grep 'TensorBoard .* at http' -m 1 <(exec timeout 300 \1 2>&1); kill $!",
            r"^srun .*$": r"\g<0> || [ $? = 1 ] # a node with other work is slow, see ``only_slow``",
        }
        for name in NEEDED:
            (folder / name).symlink_to(REPOSITORY / name)
        (folder / ".venv").symlink_to(sys.prefix)

    def type(self, block: str, **more: str) -> str:
        """All lines of it, in a shell; what they wrote."""
        for pattern, change in self._changes.items():
            block = re.sub(pattern, change, block, flags=re.MULTILINE)
        script = f"set -euo pipefail\n{block}"
        given = environment(**more)
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, env=given, capture_output=True, text=True)
        logs = "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))
        assert done.returncode == 0, f"{done.stdout}\n{logs}\n{done.stderr}"
        return done.stdout + done.stderr

    def weights(self, run: str) -> dict[str, str]:
        """Hashes of the files of a run's last checkpoint."""
        path = max((self.folder / run / "checkpoints").iterdir()) / "checkpoint.json"
        return {name: file["sha256"] for name, file in json.loads(path.read_text())["files"].items()}

    def contents(self, folder: str) -> dict[Path, str]:
        """Hashes of all files, by where they lie in it."""
        files = [path for path in (self.folder / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.folder / folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def figures(self, file: str) -> dict[str, object]:
        """All but whose they are."""
        found: dict[str, object] = json.loads((self.folder / file).read_text())
        return {name: value for name, value in found.items() if name != "run"}


def of_made_up_text(folder: Path, corpus: Path) -> Desk:
    """Models of a few thousand weights."""
    with lzma.open(folder / "corpus.jsonl.xz", "wb") as file:
        file.write(corpus.read_bytes())
    changes = {
        r"--vocab-size 8000": "--vocab-size 300",
        r"--tokenizer runs/tokenizer": r"\g<0> --shards.samples_per_shard 400 --shards.samples_per_block 50",
        r"launcher/recipes/\S+": r"\g<0>" + TINY,
    }
    return Desk(folder, 2, changes)


def of_the_sample(folder: Path, nodes: int) -> Desk:
    """With the recipes' own models."""
    if not SAMPLE.exists():
        pytest.skip(f"no {SAMPLE} here")
    (folder / "corpus.jsonl.xz").symlink_to(SAMPLE)
    return Desk(folder, nodes, {r"launcher/recipes/\S+": r"\g<0>" + FEW_STEPS})


def only_slow(said: str) -> bool:
    """Whether the doctor has looked, and found no more than what nodes on one machine with other work can lack."""
    wrong = re.findall(r"^mend: (.*)$", said, re.MULTILINE)
    seen = re.findall(r"^node\d .* ms$", said, re.MULTILINE)
    return (
        bool(seen)
        and ("nothing to mend" in said) != bool(wrong)
        and all(re.search(" (is|are) slow[:,]", line) for line in wrong)
    )


@pytest.fixture(
    scope="module", params=["made-up", *(pytest.param(f"sample on {n}", marks=pytest.mark.slow) for n in (2, 4))]
)
def desk(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With all that the page says up to its report."""
    folder = tmp_path_factory.mktemp("desk")
    _, _, nodes = request.param.partition(" on ")
    made = of_the_sample(folder, int(nodes)) if nodes else of_made_up_text(folder, corpus)
    for part in ("train", "dev", "test"):
        lines = [{"sentence": f"第{number}句话", "label": str(number % 2)} for number in range(40)]
        task = folder / "tasks" / "tnews" / f"{part}.jsonl"
        task.parent.mkdir(parents=True, exist_ok=True)
        task.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    said = made.type(BLOCKS[0])
    assert "saw each sample exactly once" in said, said
    return made


def test_from_text_to_a_report(desk: Desk) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "-c", f"{snippet}\nprint(type(model).__name__)"],
        cwd=desk.folder,
        env=alone,
        capture_output=True,
        text=True,
    )
    assert "ForMaskedLM" in shown.stdout, shown.stderr
    assert (desk.folder / "runs/tnews-int8/model.onnx").is_file()


def test_the_report_has_all_that_was_measured(desk: Desk) -> None:
    page = Page((desk.folder / "runs/report.html").read_text(encoding="utf-8"))
    kept = r"student keeps \d+%.* of teacher's accuracy on tnews, with"
    chance = r"teacher's accuracy on tnews is not clearly above random weights: .* student has"  # after so few steps
    assert re.search(rf"({kept}|{chance}) \d+% of its parameters, ", page.text)
    assert len(page.loads) == 3, "size, latency and curves"
    for heads in (("parameters", "times as fast", "in int8"), ("unigram",), ("floor",)):
        assert [row["run"] for row in page.table(*heads)] == ["teacher", "student"]
    shares = [head for table in page.tables for head in table[0] if head.startswith("of the teacher's")]
    assert bool(shares) == bool(re.search(kept, page.text)), "no share of a score that may be chance"
    teacher, student = page.table("floor")
    assert student["taught by a fine-tuned teacher"] != "–" and student["gained"] != "–" and teacher["gained"] == "–"
    (product,) = page.table("as exported")
    assert product["run"] == "student" and product["as exported"] != "–" and "int8" in product["exported as"]
    assert {row["form"] for row in page.table("form")} >= {"transformers, 1 thread", "onnx int8, 1 thread"}
    for row in page.table("hours"):
        record = json.loads((desk.folder / "runs" / row["run"] / "run.json").read_text())
        assert row["began on"] == record["devices"] and row["hours"] != "–"
        assert row.get("commit", "").partition("-")[0] == record["commit"][:12]


@pytest.fixture(scope="module")
def answered(desk: Desk) -> Desk:
    """With students of stored and of sent answers."""
    desk.type(BLOCKS[1], DS_ACCELERATOR="cpu")
    return desk


def test_stored_and_sent_answers_teach_the_same(answered: Desk) -> None:
    assert answered.weights("runs/from-answers") == answered.weights("runs/from-fleet")


def test_jobs_of_slurm_give_what_the_commands_do(answered: Desk, slurm: dict[str, str]) -> None:
    small = {"TASKS": "2", "MEMORY_GB": "1", "DS_ACCELERATOR": "cpu", "SBATCH_WAIT": "1"}
    said = answered.type(BLOCKS[2], **small, PATH=slurm["PATH"], SLURM_CONF=slurm["SLURM_CONF"])
    assert "8 of 8" in said and only_slow(said), said
    assert answered.contents("runs/shards") == answered.contents("runs/cluster/shards")
    for own, of_slurm in (("teacher", "teacher"), ("from-answers", "student")):
        assert answered.weights(f"runs/{own}") == answered.weights(f"runs/cluster/{of_slurm}")
    answered.type(
        ".venv/bin/python launcher/evaluate.py runs/from-answers --data runs/shards --output runs/from-answers.json"
    )
    assert answered.figures("runs/from-answers.json") == answered.figures("runs/cluster/student.json")


def test_no_command_stands_elsewhere_on_the_page() -> None:
    others = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    commands = [code for code in re.findall(r"`([^`]+)`", others) if re.match(r"\S*(launcher|slurm|venv)/\S+ \S", code)]
    assert len(BLOCKS) == 3 and not commands
