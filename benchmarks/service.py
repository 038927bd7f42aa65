"""How long a student waits for teachers that serve it on the same machine, and how many students one teacher can feed.

python benchmarks/service.py [--data CORPUS ...] [--vocab vocab.txt] [--width 192] [--steps 96] [--quick]

A teacher of 12 layers (launcher/teach.py --serve) on one core, and a student of 6 layers of the same width
(launcher/distill.py --fleet) on another, on DistilBERT's losses, codec hidden, in blocks so small that a window is few
steps. The weights are random: no figure depends on them. From the second window on, for the first is waited for by
whoever starts:

- ``service_wait_share``: of the student's time, what it waited for data and answers;
- ``teacher_busy``: of the teacher's time, what it needs for the blocks that the student goes through meanwhile;
- ``students_per_teacher``: how many such students it could feed, one over that.

Beside it the same run with the answers stored, and the bytes a second that came over the wire. On a machine with GPUs
teacher and student share the first. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import torch
from data import first, texts_of, written
from train_step import SHARED

from data_tools.build import BuildConfig, build
from data_tools.samples.pairs import PairConfig
from data_tools.shards.assembly import ShardConfig
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.wordpiece import WordPiece
from litebert.data.order import WINDOW_BLOCKS
from litebert.data.split import Split
from litebert.distill.addresses import Address, found
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel
from litebert.model.huggingface import save_huggingface
from litebert.plan.processor import processor
from litebert.train.commit import commit

ROOT = Path(__file__).parents[1]
MEGABYTES = 2.0
BATCH, BLOCK, LENGTH = 16, 8, 128
WINDOW = WINDOW_BLOCKS * BLOCK // BATCH  # steps
TEACHER_LAYERS, STUDENT_LAYERS = 12, 6


def shape(width: int, layers: int) -> dict[str, Any]:
    """Keys of a model's config."""
    sizes = {"hidden_size": width, "embedding_size": width, "intermediate_size": 4 * width}
    return {**sizes, "num_heads": max(1, width // 64), "num_layers": layers, "max_positions": LENGTH}


def prepare(data: list[Path], vocab: Path, width: int, folder: Path) -> None:
    """Shards of some of the text, and a teacher."""
    text = written(first(texts_of(data), MEGABYTES), folder / "text.jsonl")
    tokenizer = WordPiece(vocab.read_bytes(), str(vocab))
    save_tokenizer(tokenizer, folder / "tokenizer")
    config = BuildConfig(pairs=PairConfig(seq_length=LENGTH), shards=ShardConfig(samples_per_block=BLOCK))
    build([text], folder / "tokenizer", folder / "shards", config)
    torch.manual_seed(0)
    size = ModelConfig(vocab_size=len(tokenizer.pieces), sharing="none", **shape(width, TEACHER_LAYERS))
    save_huggingface(PretrainingModel(size), folder / "teacher", pad_id=0, cls_id=2, sep_id=3)
    save_tokenizer(tokenizer, folder / "teacher")


def pinned(core: int, script: str, *arguments: str) -> list[str]:
    """A command line on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)]), sys.executable, str(ROOT / "launcher" / script), *arguments]


@contextlib.contextmanager
def teacher(folder: Path) -> Iterator[Address]:
    """One at work on the first core."""
    given = ["--teacher", "teacher", "--data", "shards", "--codec.kind", "hidden", "--serve", "fleet"]
    process = subprocess.Popen(pinned(0, "teach.py", *given), cwd=folder, stdout=subprocess.DEVNULL)
    try:
        while not (addresses := found([str(folder / "fleet")], "", "").addresses):
            assert process.poll() is None, "the teacher ended"
            time.sleep(0.1)
        yield addresses[0]
    finally:
        process.terminate()
        process.wait()


def state(address: Address) -> dict[str, float]:
    """What a teacher has done so far."""
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {address.token}".encode())])
    with flight.FlightClient(address.uri) as client:
        done: dict[str, float] = json.loads(next(client.do_action("state", options)).body.to_pybytes())
    return done


def train(folder: Path, run: str, steps: int, width: int, source: list[str]) -> subprocess.Popen[bytes]:
    """A student at work on the second core."""
    sizes = [part for key, value in shape(width, STUDENT_LAYERS).items() for part in (f"--model.{key}", str(value))]
    given = ["--config", str(ROOT / "launcher/recipes/distil_6l.yaml"), "--data", "shards", "--run", run, *source]
    more = {
        "data.global_batch": BATCH, "data.micro_tokens": BATCH * LENGTH, "train.steps": steps, "train.log_every": 4,
        "train.evaluate_every": 0, "train.checkpoint_every": steps, "train.keep_every": 0, "schedule.warmup_steps": 1,
        "train.ds_config": str(ROOT / "ds_configs/zero1.json"), "distill.start": "random",
    }  # fmt: skip
    overrides = [part for key, value in more.items() for part in (f"--{key}", str(value))]
    command = pinned(1, "distill.py", *given, *sizes, *overrides)
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})


def lines(folder: Path, run: str) -> list[dict[str, float]]:
    """Of a run's metrics."""
    path = folder / run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def settled(folder: Path, run: str) -> list[dict[str, float]]:
    """Of steps in windows after the first."""
    return [line for line in lines(folder, run) if line["step"] > WINDOW + 4]


def measured(folder: Path, steps: int, width: int) -> dict[str, Any]:
    """Both runs, and what came of them."""
    with teacher(folder) as address:
        assert train(folder, "sent", steps, width, ["--fleet", "fleet"]).wait() == 0, "the student failed"
        tally = state(address)
    given = ["--teacher", "teacher", "--data", "shards", "--codec.kind", "hidden", "--copies", "0", "--output", "soft"]
    subprocess.run(pinned(0, "teach.py", *given), cwd=folder, check=True, stdout=subprocess.DEVNULL)
    assert train(folder, "kept", steps, width, ["--soft", "soft"]).wait() == 0, "the student failed"
    sent, kept = settled(folder, "sent"), settled(folder, "kept")
    split = Split(folder / "shards", "train")
    speeds = [statistics.median(line["tokens_per_s"] for line in part) for part in (sent, kept)]
    blocks = speeds[0] / (split.tokens / split.samples * BLOCK)  # that the student goes through in a second
    busy = blocks * tally["busy"] / tally["blocks"]
    return {
        "service_wait_share": round(statistics.mean(line["loader_wait"] for line in sent), 4),
        "stored_wait_share": round(statistics.mean(line["loader_wait"] for line in kept), 4),
        "teacher_busy": round(busy, 3),
        "students_per_teacher": round(1 / busy, 2),
        "sent_bytes_per_s": round(blocks * tally["masked"] / tally["blocks"] * 2 * width),
        "student_tokens_per_s": {"sent": round(speeds[0]), "stored": round(speeds[1])},
        "teacher_masked_per_s": round(tally["masked"] / tally["busy"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", default=[SHARED / "corpus/sample.jsonl.xz"])
    parser.add_argument("--vocab", type=Path, default=SHARED / "models/vocab-zh-21128.txt", help="BERT's vocab.txt")
    parser.add_argument("--width", type=int, default=192, help="of both models; heads are of 64")
    parser.add_argument("--steps", type=int, default=4 * WINDOW, help=f"of the student; a window is {WINDOW}")
    parser.add_argument("--quick", action="store_true", help="narrow, and two windows: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.width, options.steps = 32, 2 * WINDOW
    with tempfile.TemporaryDirectory() as scratch:
        prepare([path.resolve() for path in options.data], options.vocab, options.width, Path(scratch))
        samples = Split(Path(scratch) / "shards", "train").samples
        assert samples > 3 * WINDOW * BATCH or options.quick, f"{samples} samples are too few"
        figures = measured(Path(scratch), options.steps, options.width)
    for name, value in figures.items():
        print(f"{name:22} {value}")
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()}
    print(json.dumps({**figures, "width": options.width, "steps": options.steps, **machine, "commit": commit()}))


if __name__ == "__main__":
    main()
