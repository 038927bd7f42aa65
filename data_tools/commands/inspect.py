"""Show samples as text: their words, what is masked and how, their order, and where they are from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from data_tools.inspection import inspected
from data_tools.rendering import Renderer
from data_tools.shards.manifest import Manifest
from data_tools.text.huggingface import load_tokenizer


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shards", type=Path, help="folder of the shards")
    parser.add_argument("--split", type=str, default="train", help="train or heldout")
    parser.add_argument("--number", type=int, default=5, help="samples to show")
    parser.add_argument("--seed", type=int, default=1, help="which samples are drawn")
    parser.add_argument("--copy", type=int, default=0, help="which masked copy is shown")
    parser.add_argument(
        "--source", type=str, action="append", default=[], help="draw from this source; can be repeated"
    )


def run(options: Namespace) -> None:
    """Print the samples, coloured on a terminal unless NO_COLOR is set (no-color.org)."""
    samples = inspected(options.shards, options.split, options.number, options.seed, options.copy, options.source)
    tokenizer = load_tokenizer(options.shards / "tokenizer")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    objective = Manifest.load(options.shards).config["pairs"]["objective"]
    renderer = Renderer(tokenizer.pieces, tokenizer.vocabulary, colour, objective)
    print(renderer.legend)
    for sample in samples:
        print(f"\n{renderer.sample(sample)}")
