"""Keeps a teacher's answers beside the data: python launcher/teach.py --teacher MODEL --data SHARDS --output SOFT

launcher/distill.py --soft SOFT then learns from them, any student, order, batch and number of GPUs, and no teacher
runs. The teacher is what launcher/distill.py takes for one.

Started by torchrun, deepspeed or srun, each rank takes its share of the shards. --task I/N takes one of N shares, from
0, of which ranks then take theirs: sbatch --array=0-15 with --task $SLURM_ARRAY_TASK_ID/16. Killed at any moment, the
same command goes on where it was, with as many ranks or tasks as you like.

--serve FLEET instead of --output answers over the network, until it is told to stop with SIGTERM or Ctrl-C:
launcher/distill.py --fleet FLEET learns from all teachers that announce themselves in that folder. Each rank serves on
its own. It listens at this machine alone unless --host says otherwise, and wants to hear a token, which students read
in FLEET. --record SOFT keeps what it answers; the same command with --output SOFT then does what nobody asked for.

Exit codes: 0 its share is done or it was told to stop, 2 something is wrong and said: also where it answered to the
end, but its recording stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace

from litebert.distill.codecs import CodecConfig
from litebert.distill.lesson import Lesson, TeachConfig
from litebert.distill.serving import ServeConfig, serve
from litebert.distill.teacher import DTYPES, usual_precision
from litebert.distill.teaching import Teaching
from litebert.train.place import Place

_OF_SERVING = ("record", "host", "port", "advertise", "token_file", "tls_cert", "tls_key")


def parser() -> ArgumentParser:
    """Of the command line."""
    made = ArgumentParser(prog="teach", description=__doc__.splitlines()[0], exit_on_error=False)
    made.add_argument("--teacher", type=Path, required=True, help="a run, a checkpoint or a Hugging Face folder")
    made.add_argument("--data", type=str, required=True, help="folder of shards, or its URL")
    made.add_argument("--output", type=Path, help="folder of the answers; it goes on with one begun")
    made.add_argument("--serve", type=Path, metavar="FLEET", help="or send them, announced in this folder")
    made.add_argument("--record", type=Path, metavar="SOFT", help="with --serve: keep the answers in this folder")
    made.add_argument("--host", type=str, help="with --serve: the address to listen at (127.0.0.1)")
    made.add_argument("--port", type=int, default=0, help="and the port, of each rank the next; 0 for any that is free")
    made.add_argument("--advertise", type=str, help="the host that students call, if it is another")
    made.add_argument("--token-file", type=Path, help="of a token of your own")
    made.add_argument("--tls-cert", type=Path, help="PEM file of a certificate, to serve over TLS")
    made.add_argument("--tls-key", type=Path, help="and of its key")
    made.add_class_arguments(CodecConfig, "codec")
    made.add_argument("--copies", type=int, nargs="+", default=[], help="masked copies to answer; all if not said")
    made.add_argument(
        "--precision",
        choices=sorted(DTYPES),
        help="that the teacher computes in: if not said, bf16 on a GPU that has it, as in the recipes, else fp32",
    )
    made.add_argument("--seed", type=int, default=1, help="of draws, for codec sampled")
    made.add_argument("--task", type=str, default="0/1", help="I/N: the share of a task of a job array, from 0")
    made.add_argument("--check", action="store_true", help="only see whether teacher, data and codec fit together")
    made.add_argument("--local_rank", type=int, help="deepspeed passes it")
    return made


def main(argv: Sequence[str]) -> int:
    """Teaches; prints what came of it."""
    try:
        options = parser().parse_args(list(argv))
        if bool(options.output) == bool(options.serve):
            raise ValueError("give either --output, to keep the answers, or --serve, to send them")
        if options.output and (strange := [name for name in _OF_SERVING if getattr(options, name)]):
            raise ValueError(
                f"--{strange[0].replace('_', '-')} is for --serve; leave it out, or give --serve for --output"
            )
        (task, tasks), place = _task(options.task), Place.here()
        serving = _serving(options, place.rank) if options.serve else None
        device = _device(place)
        config = TeachConfig(tuple(options.copies), options.precision or usual_precision(device), options.seed)
        codec = CodecConfig(**options.codec.as_dict())
        lesson = Lesson(options.data, options.teacher, codec, config, device)
        if options.check:
            kept = lesson.bytes_per_position
            print(f"{options.data}: {kept} bytes for each masked token, of a teacher in {config.precision}")
        elif serving:
            return 0 if serve(lesson, serving, options.record, _told_to_stop()) else 2
        else:
            print(Teaching(lesson, options.output).run(task * place.size + place.rank, tasks * place.size), flush=True)
    except (ValueError, OSError, ArgumentError) as error:
        print(f"teach: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _serving(options: Namespace, rank: int) -> ServeConfig:
    port = options.port and options.port + rank
    names = ("host", "advertise", "token_file", "tls_cert", "tls_key")
    own = {name: value for name in names if (value := getattr(options, name))}
    return ServeConfig(fleet=options.serve, port=port, **own)


def _told_to_stop() -> Callable[[], bool]:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told.is_set


def _task(text: str) -> tuple[int, int]:
    task, slash, tasks = text.partition("/")
    if not (slash and task.isdecimal() and tasks.isdecimal() and int(task) < int(tasks)):
        raise ValueError(f"--task {text}: say I/N, I from 0 to N - 1")
    return int(task), int(tasks)


def _device(place: Place) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", place.local_rank % torch.cuda.device_count())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a client that has stopped reading keeps Flight's threads, and they the interpreter
