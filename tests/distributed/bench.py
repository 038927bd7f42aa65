"""Real processes that talk over gloo, on shards that the data tools made from made-up text."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from litebert.train.metrics import MACHINE

REPOSITORY = Path(__file__).parents[2]
WORDS = [
    "今天",
    "天气",
    "我们",
    "学习",
    "中文",
    "模型",
    "训练",
    "数据",
    "北京",
    "上海",
    "大学",
    "经济",
    "发展",
    "文化",
]
STEPS = 20

# Odd sizes everywhere: no world size divides the parameters, so every partition has its padding.
RECIPE = f"""
model:
  {{hidden_size: 63, embedding_size: 33, num_layers: 2, num_heads: 3, intermediate_size: 99, dropout: 0.1}}
data: {{global_batch: 16, micro_tokens: 600}}
optimizer: {{lr: 3e-3}}
schedule: {{warmup_steps: 5}}
train: {{steps: {STEPS}, log_every: 1, checkpoint_every: 1000}}
"""


def environment(**changes: object) -> dict[str, str]:
    """The environment of a process of ours: one thread, this repository, no GPU."""
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **{name: str(value) for name, value in changes.items()},
    }


def free_port() -> int:
    """A port that nothing listens on: others may train on this machine too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bench:
    """A folder with shards and a recipe, where runs are made.

    Attributes:
        folder: holds everything.
        shards: a folder of shards with a vocabulary of 121.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = folder / "shards"
        self._groups = 0
        (folder / "recipe.yaml").write_text(RECIPE)
        for stage in range(4):
            zero: dict[str, int] = {"stage": stage, "reduce_bucket_size": 1_000_000}
            if stage == 3:
                zero["stage3_param_persistence_threshold"] = 0  # else such small parameters stay whole
            (folder / f"zero{stage}.json").write_text(json.dumps({"zero_optimization": zero}))
        chance = random.Random(1)
        with (folder / "corpus.jsonl").open("w") as file:
            for number in range(300):
                words = chance.sample(WORDS, 8)
                sentences = [
                    "".join(chance.choices(words, k=chance.randint(3, 9))) for _ in range(chance.randint(5, 15))
                ]
                file.write(json.dumps({"id": str(number), "text": "。".join(sentences)}) + "\n")
        self._data_tools("tokenizer", "--output", "tokenizer", "--vocab-size", "121")
        self._data_tools("build", "--tokenizer", "tokenizer", "--output", "shards")

    def arguments(self, run: str, *overrides: str, stage: int = 1) -> list[str]:
        """A command line of pretrain.py."""
        return [
            *("--config", str(self.folder / "recipe.yaml"), "--data", str(self.shards)),
            *(
                "--run",
                str(self.run(run)),
                "--train.ds_config",
                str(self.folder / f"zero{stage}.json"),
                *overrides,
            ),
        ]

    def group(self, world_size: int, jobs: list[dict[str, Any]], timeout: float = 400) -> tuple[list[int | str], str]:
        """Runs jobs of worker.py in turn; returns their outcomes, and what rank 0 printed."""
        self._groups += 1
        folder = self.folder / f"group{self._groups}"
        folder.mkdir()
        (folder / "jobs.json").write_text(json.dumps(jobs))
        address = {"WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        worker = [sys.executable, str(Path(__file__).with_name("worker.py"))]
        processes = [
            subprocess.Popen(
                [*worker, str(folder / "jobs.json"), str(folder / "outcomes.json")],
                env=environment(**address, RANK=rank, LOCAL_RANK=rank),
                stdout=(folder / f"rank{rank}.log").open("w"),
                stderr=subprocess.STDOUT,
            )
            for rank in range(world_size)
        ]
        try:
            codes = [process.wait(timeout) for process in processes]
        finally:
            for process in processes:
                process.kill()
        logs = [(folder / f"rank{rank}.log").read_text() for rank in range(world_size)]
        assert not any(codes), "\n".join(logs)
        return json.loads((folder / "outcomes.json").read_text()), logs[0]

    def run(self, name: str) -> Path:
        """A run folder."""
        return self.folder / name

    def metrics(self, run: str) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, without what depends on the clock."""
        lines = [json.loads(line) for line in (self.run(run) / "metrics.jsonl").read_text().splitlines()]
        return [{key: line[key] for key in line.keys() - MACHINE} for line in lines]

    def losses(self, run: str) -> list[float]:
        """The loss of every line."""
        return [line["loss"] for line in self.metrics(run)]

    def hashes(self, run: str, step: int = STEPS) -> dict[str, str]:
        """What a checkpoint says of its files: two with the same hashes are equal bit for bit."""
        path = self.run(run) / "checkpoints" / f"step-{step:08d}" / "checkpoint.json"
        return {name: file["sha256"] for name, file in json.loads(path.read_text())["files"].items()}

    def _data_tools(self, verb: str, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "data_tools", verb, "--input", "corpus.jsonl", *arguments],
            cwd=self.folder,
            env=environment(),
            check=True,
            capture_output=True,
        )
