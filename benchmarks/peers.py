"""What others have for a step of the way from text to masked samples, as they ship it, on one thread.

Nothing of it is kept here: Google's script comes from PyPI into a virtual environment of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from costs import Costs, in_turn
from transformers import AutoTokenizer, DataCollatorForLanguageModeling
from webdataset import TarWriter

from data_tools.build import BuildConfig, build
from data_tools.shards import blocks, tar
from data_tools.shards.reader import ShardReader

SEQ_LENGTH, RATE, BATCH = 128, 0.15, 256
_SENTENCE_END = re.compile(r"(?<=[。！？；])|\n")
_QUIET = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
_ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
_REQUIREMENTS = ("tensorflow-cpu", "tf-keras", "sentencepiece", "absl-py")
GOOGLE, _START = "Google's create_pretraining_data", "its start, and one document"
_SCRIPT = "official.nlp.data.create_pretraining_data"


def hugging_face(texts: list[str], folder: Path) -> dict[str, Callable[[], object]]:
    """``tokenizers`` alone; then with ``transformers``' collator, which masks token by token, or "whole words".

    The collator takes a new word to begin where characters lie between two tokens, so that in Chinese nearly everything
    between two spaces is one: its whole-word masks are good for their speed here, not for use.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    backend = tokenizer.backend_tokenizer

    def masked(whole_words: bool) -> Callable[[], object]:
        def work() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                collator = DataCollatorForLanguageModeling(
                    tokenizer, whole_word_mask=whole_words, mlm_probability=RATE, return_tensors="np", seed=1
                )
            samples: list[dict[str, Any]] = []
            for text in texts:
                encoded = tokenizer(
                    text,
                    max_length=SEQ_LENGTH,
                    truncation=True,
                    padding="max_length",
                    return_overflowing_tokens=True,
                    return_special_tokens_mask=True,
                    return_offsets_mapping=whole_words,
                )
                names = [name for name in encoded if name != "overflow_to_sample_mapping"]
                samples += [dict(zip(names, row, strict=True)) for row in zip(*map(encoded.get, names), strict=True)]
                while len(samples) >= BATCH:
                    collator(samples[:BATCH])
                    del samples[:BATCH]
            if samples:
                collator(samples)

        return work

    return {
        "tokenizers, ids alone": lambda: backend.encode_batch(texts, add_special_tokens=False),
        "transformers, ids and token masks": masked(False),
        "transformers, ids and whole_word_mask": masked(True),
    }


def google(texts: list[str], vocab: Path, folder: Path, cache: Path) -> dict[str, Callable[[], object]]:
    """Google's ``create_pretraining_data`` with whole-word masks, one copy, a sentence a line; and its start by itself
    (see ``without_start``). Nothing, and why, where it cannot be had."""
    try:
        python = _environment(cache / "tf-models")
    except (subprocess.CalledProcessError, OSError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        print(f"{GOOGLE}: skipped, {reason.strip().splitlines()[-1]}")
        return {}
    lines = ["".join(f"{line.strip()}\n" for line in _SENTENCE_END.split(text) if line.strip()) for text in texts]
    (folder / "google.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "google-start.txt").write_text(lines[0], encoding="utf-8")

    def script(name: str) -> Callable[[], object]:
        command = [
            str(python),
            "-m",
            _SCRIPT,
            f"--input_file={folder / name}",
            f"--output_file={folder / name}.tfrecord",
        ]
        command += [f"--vocab_file={vocab}", "--do_whole_word_mask", f"--max_seq_length={SEQ_LENGTH}"]
        command += [f"--masked_lm_prob={RATE}", "--max_predictions_per_seq=20", "--dupe_factor=1"]
        environment = os.environ | _QUIET | _ONE_THREAD
        return lambda: subprocess.run(command, check=True, capture_output=True, env=environment)

    return {GOOGLE: script("google.txt"), _START: script("google-start.txt")}


def without_start(costs: dict[str, Costs]) -> dict[str, Costs]:
    """The costs without the seconds that Google's script takes to start, which are TensorFlow's."""
    if (start := costs.get(_START)) is None:
        return costs
    print(f"{GOOGLE} takes {start.cpu:.1f} s to start, which are left out")
    google = costs[GOOGLE]
    net = Costs(
        [whole - one for whole, one in zip(google.cpus, start.cpus, strict=True)],
        [whole - one for whole, one in zip(google.walls, start.walls, strict=True)],
    )
    return {name: net if name == GOOGLE else cost for name, cost in costs.items() if name != _START}


def _environment(folder: Path) -> Path:
    """The Python of a virtual environment with Google's models, made where there is none."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing TensorFlow and tf-models into {folder} (1.6 GB)", flush=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [*pip, *_REQUIREMENTS],
            [*pip, "--no-deps", "tf-models-no-deps"],
            [str(python), "-c", f"import {_SCRIPT}"],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
        (folder / "complete").touch()
    return python


def webdataset(text: Path, tokenizer: Path, folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """The same masked samples written by webdataset, a sample a key, and as our blocks."""
    built = build([text], tokenizer, folder / "shards", BuildConfig())
    shards = built.splits["train"].shards
    readers = [(ShardReader(folder / "shards", shard), range(len(shard.samples))) for shard in shards]
    found = blocks.join([reader.read(block, 0) for reader, numbers in readers for block in numbers])
    count = len(found.samples)
    keys = [f"{number:08d}" for number in range(count)]
    rows = list(_rows(found))

    def one_a_key() -> None:
        with TarWriter(str(folder / "keys.tar")) as writer:
            for key, row in zip(keys, rows, strict=True):
                writer.write({"__key__": key, **row})

    def in_blocks() -> None:
        with tar.written(folder / "blocks.tar") as writer:
            for begin in range(0, count, BATCH):
                block = found.take(np.arange(begin, min(begin + BATCH, count)))
                writer.write(keys[begin], blocks.encode(block.samples, [block.masks], built.vocab_size))

    figures = {}
    print("\nwriting masked samples: samples a second of processor time, bytes a token")
    for name, costs in in_turn(
        {"webdataset, a sample a key": one_a_key, "ours, in blocks": in_blocks}, repeats
    ).items():
        speed = count / costs.cpu
        path = folder / ("keys.tar" if name.startswith("webdataset") else "blocks.tar")
        bytes_a_token = path.stat().st_size / len(found.samples.ids)
        print(f"{name:32} {speed:12,.0f} {bytes_a_token:8.2f}")
        figures[name] = {"samples_per_s": round(speed), "bytes_per_token": round(bytes_a_token, 2)}
    return figures


def _rows(block: blocks.Block) -> Iterator[dict[str, object]]:
    """Each sample by itself, in the forms that webdataset writes without being told: arrays and numbers."""
    samples, masks = block.samples, block.masks
    tokens, masked = np.cumsum(samples.lengths)[:-1], np.cumsum(masks.counts)[:-1]
    ids = np.split(samples.ids.astype(np.uint16), tokens)
    positions, inputs = (
        np.split(masks.positions.astype(np.uint16), masked),
        np.split(masks.inputs.astype(np.uint16), masked),
    )
    for number in range(len(samples)):
        yield {
            "ids.npy": ids[number],
            "positions.npy": positions[number],
            "inputs.npy": inputs[number],
            "first.cls": int(samples.first[number]),
            "order.cls": int(samples.order[number]),
        }
