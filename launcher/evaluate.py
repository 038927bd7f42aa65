"""Measure the model of a run on held-out documents: python launcher/evaluate.py RUN --data SHARDS [--teacher MODEL]."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch

from litebert.data.split import Split
from litebert.distill.teacher import Teacher
from litebert.evaluate.heldout import evaluate_heldout
from litebert.train.run import write
from litebert.train.trained import load_trained


def main() -> int:
    """Print the figures as JSON, and write them to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards, with its held-out split")
    parser.add_argument("--teacher", type=Path, nargs="+", default=[], help="models to compare its words with")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    try:
        trained = load_trained(options.run)
        train, heldout = Split(options.data, "train"), Split(options.data, "heldout")
        if heldout.tokenizer_fingerprint != trained.tokenizer.fingerprint:
            raise ValueError(f"{options.data} was made with another tokenizer than {options.run}; give its own shards")
        if heldout.fingerprint != trained.data_fingerprint:
            print(
                f"evaluate: {options.data} is not what {options.run} was trained on: it may hold out", file=sys.stderr
            )
            print("evaluate: documents that were trained on, and the baseline is of its own text", file=sys.stderr)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded = [Teacher.load(path, trained.tokenizer.pieces) for path in options.teacher]
        teachers = [teacher.to(device, torch.float32) for teacher in loaded]
        figures = dataclasses.asdict(evaluate_heldout(trained.model, train, heldout, device, teachers))
        text = json.dumps({"run": str(options.run), "step": trained.step, **figures}, indent=1)
        if options.output:
            write(options.output, text + "\n")
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
