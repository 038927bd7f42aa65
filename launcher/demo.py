"""From Chinese text to an exported ALBERT, and a student of it, by the commands a user types; run again, it goes on."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from litebert.demo.stages import OUTPUT, REPOSITORY, Stage, Stages
from litebert.demo.summary import megabytes, read, summarize

LAUNCHER, DEMO = REPOSITORY / "launcher", REPOSITORY / "litebert" / "demo"
DATA_TOOLS = REPOSITORY / "data_tools" / "__main__.py"
PYTHON = sys.executable
CORES = len(os.sched_getaffinity(0))
# Asked in another process: one that has started CUDA holds memory on the GPU.
COUNT_GPUS = "import torch; print(torch.cuda.device_count())"
PLAIN_TEXT = ("blank_line", "file", "line")
VOCAB_SIZE = 8000
HELDOUT_SHARE = "0.05"  # enough pairs for an interval of a few per cent
NO_TEACHER = ("--distill.ce", "0", "--distill.cos", "0", "--distill.start", "random")  # the control: labels alone
MASK_COPIES = "4"  # no epoch of so short a training sees the masks of another, which it would remember


def plan(folder: Path, corpus: Sequence[Path], plain_text: str) -> list[Stage]:
    """The stages of a run in their order; without a corpus the first one fetches the demo's own text."""
    text = tuple(corpus) or (folder / "corpus",)
    reader = ("--reader.plain_text", plain_text)
    kept = ("--shards.heldout_share", HELDOUT_SHARE, "--masks.copies", MASK_COPIES)
    tokenizer, shards, train, export = (folder / part for part in ("tokenizer", "shards", "train", "export"))
    recipe, distil_recipe = (LAUNCHER / "recipes" / f"{name}_demo.yaml" for name in ("albert", "distil"))
    verbs = ("pretrain", "distill", "evaluate", "export")
    pretrain, distill, evaluate, export_ = (LAUNCHER / f"{verb}.py" for verb in verbs)
    deepspeed, environment = distribution()
    engine = ("--train.ds_config", REPOSITORY / "ds_configs" / "zero1.json")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    own_text = Stage(
        "corpus",
        (PYTHON, "-m", "litebert.demo.corpus"),
        DEMO / "corpus.py",
        ("--output", OUTPUT),
        lambda made: (megabytes([made]), "MB"),
    )

    def distilled(name: str, *more: str) -> list[Stage]:
        """A student of the trained model, and its figures beside it."""
        student = folder / name
        return [
            Stage(
                name,
                (*deepspeed, str(distill)),
                distill,
                ("--config", distil_recipe, "--data", shards, "--teacher", train, "--run", OUTPUT, *engine, *more),
                lambda made: (read(made / "done.json")["step"], "steps"),
                "done.json",
                environment,
            ),
            Stage(
                f"{name}.json",
                (PYTHON, str(evaluate)),
                evaluate,
                (student, "--data", shards, "--teacher", train, "--output", OUTPUT),
                lambda made: (read(made)["samples"], "samples"),
            ),
        ]

    stages = [
        Stage(
            "tokenizer",
            (PYTHON, "-m", "data_tools", "tokenizer"),
            DATA_TOOLS,
            ("--input", *text, "--output", OUTPUT, "--vocab-size", str(VOCAB_SIZE), *reader),
            lambda made: (megabytes(text), "MB"),
        ),
        Stage(
            "shards",
            (PYTHON, "-m", "data_tools", "build", "--workers", str(CORES)),
            DATA_TOOLS,
            ("--input", *text, "--tokenizer", tokenizer, "--output", OUTPUT, *reader, *kept),
            lambda made: (read(made / "manifest.json")["documents_read"], "documents"),
        ),
        Stage(
            "train",
            (*deepspeed, str(pretrain)),
            pretrain,
            ("--config", recipe, "--data", shards, "--run", OUTPUT, *engine),
            lambda made: (read(made / "done.json")["step"], "steps"),
            "done.json",
            environment,
        ),
        Stage(
            "evaluation.json",
            (PYTHON, str(evaluate)),
            evaluate,
            (train, "--data", shards, "--output", OUTPUT),
            lambda made: (read(made)["samples"], "samples"),
        ),
        *distilled("student"),
        *distilled("control", *NO_TEACHER),
        Stage(
            "export",
            (PYTHON, str(export_)),
            export_,
            (train, "--output", OUTPUT, "--format", "hf"),
            lambda made: (megabytes([made]), "MB"),
            environment=offline,
        ),
        Stage(
            "filled.json",
            (PYTHON, "-m", "litebert.demo.fill"),
            DEMO / "fill.py",
            (export, "--output", OUTPUT),
            lambda made: (len(read(made)), "sentences"),
            environment=offline,
        ),
    ]
    return stages if corpus else [own_text, *stages]


def distribution() -> tuple[tuple[str, ...], dict[str, str]]:
    """How DeepSpeed is started here, and with what environment: on every GPU, else on two CPU processes."""
    with socket.socket() as probe:  # DeepSpeed's own default port may be another run's
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    deepspeed = (str(Path(PYTHON).with_name("deepspeed")), "--log_level", "critical", "--master_port", port)
    if shutil.which("nvidia-smi"):
        answer = subprocess.run([PYTHON, "-c", COUNT_GPUS], stdout=subprocess.PIPE, text=True, check=True).stdout
        if int(answer):
            return deepspeed, {}
    threads = str(max(1, CORES // 2))
    return (*deepspeed, "--num_gpus", "2"), {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": threads}


def run_folder(corpus: Sequence[Path]) -> Path:
    """Where the results of a corpus lie: those of different text stand side by side."""
    if not corpus:
        return REPOSITORY / "runs" / "demo"
    key = hashlib.sha256("\n".join(map(str, corpus)).encode()).hexdigest()[:8]
    return REPOSITORY / "runs" / f"demo-{corpus[0].name.split('.')[0]}-{key}"


def run(folder: Path, corpus: Sequence[Path], plain_text: str) -> str:
    """Does what is not done yet; returns the table. Raises ValueError, CalledProcessError."""
    for path in corpus:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder; name the text in CORPUS, or leave it out")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another demo is at work here; let it end, or stop it") from None
        stages, planned = Stages(folder), plan(folder, corpus, plain_text)
        for stage in planned:
            stages.run(stage)
        seconds: dict[str, float] = defaultdict(float)
        for stage in planned:
            seconds[Path(stage.output).stem] += stages.records[stage.output]["seconds"]
        return summarize(folder, corpus or [folder / "corpus"], seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, nargs="+", action="extend", default=[], help="files, folders")
    parser.add_argument("--plain-text", choices=PLAIN_TEXT, default=PLAIN_TEXT[0], help="what ends a document in .txt")
    options = parser.parse_args()
    corpus = [path.resolve() for path in options.corpus]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        print(run(run_folder(corpus), corpus, options.plain_text))
    except KeyboardInterrupt:
        print("\ndemo: stopped; the same `make demo` again goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        if error.returncode != 2:  # with 2, the command has said in a line what the user can do
            print(f"demo: {error.cmd} did not finish (status {error.returncode}), see above", file=sys.stderr)
        return max(error.returncode, 1)
    return 0


def interrupt(number: int, frame: object) -> NoReturn:
    """A request to end, or the loss of the terminal, is as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
