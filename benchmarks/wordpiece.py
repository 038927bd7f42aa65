"""The WordPiece look-up beside Hugging Face's ``tokenizers``, on one thread, on the same text, in turn.

python benchmarks/wordpiece.py --vocab vocab.txt --input FILE [--characters 8000000] [--repeats 5]

``cold`` begins every repeat with an empty cache of runs; ``warm`` has met the text before. Text goes in as a build
hands it over, a million characters at a time. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers

from data_tools.documents.document import Document
from data_tools.documents.files import find_files
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.text.wordpiece import WordPiece, bert_tokenizer
from litebert.plan.processor import processor
from litebert.train.commit import commit

BATCH_CHARACTERS = 1_000_000


def batches(files: list[Path], characters: int) -> list[list[str]]:
    found: list[list[str]] = [[]]
    size = 0
    for document in read_documents(find_files(files), ReaderConfig()):
        if not isinstance(document, Document):
            continue
        found[-1].append(document.text)
        size += len(document.text)
        if size >= characters:
            break
        if size >= BATCH_CHARACTERS * len(found):
            found.append([])
    return [batch for batch in found if batch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--input", type=Path, nargs="+", required=True)
    parser.add_argument("--characters", type=int, default=8_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    text = batches(options.input, options.characters)
    megabytes = sum(len(one.encode()) for batch in text for one in batch) / 1e6
    model = options.vocab.read_bytes()
    warm = WordPiece(model, str(options.vocab))
    reference = bert_tokenizer(warm)
    for batch in text:
        ids = [number for one in reference.encode_batch(batch, add_special_tokens=False) for number in one.ids]
        assert np.array_equal(warm.encode(batch).ids, ids), "the ids differ"

    def forget() -> None:
        warm._runs.clear()

    def nothing() -> None:
        pass

    entries: dict[str, tuple[Callable[[], None], Callable[[list[str]], object]]] = {
        "tokenizers": (nothing, lambda batch: reference.encode_batch(batch, add_special_tokens=False)),
        "tokenizers_fast": (nothing, lambda batch: reference.encode_batch_fast(batch, add_special_tokens=False)),
        "cold": (forget, warm.encode),
        "warm": (nothing, warm.encode),
    }
    speeds: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(options.repeats):
        for name, (before, encode) in entries.items():
            before()
            begin = time.process_time()  # of this process alone: others on the machine do not count
            for batch in text:
                encode(batch)
            speeds[name].append(megabytes / (time.process_time() - begin))
    print(f"{megabytes:.1f} MB of UTF-8, {options.repeats} repeats, MB/s: median (least to most), times tokenizers")
    figures: dict[str, object] = {}
    base = statistics.median(speeds["tokenizers"])
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:16} {median:8.2f} ({min(values):.2f} to {max(values):.2f}) {median / base:7.1f}x")
        figures[name] = {"mb_per_s": round(median, 2), "least": round(min(values), 2), "most": round(max(values), 2)}
    fast = statistics.median(speeds["tokenizers_fast"])
    figures["ratio_vs_tokenizers"] = round(statistics.median(speeds["cold"]) / base, 1)
    figures["ratio_vs_tokenizers_fast"] = round(statistics.median(speeds["cold"]) / fast, 1)
    versions = {"tokenizers": tokenizers.__version__, "numpy": np.__version__, "python": platform.python_version()}
    machine = {"processor": processor(), "versions": versions, "commit": commit()}
    print(json.dumps({"megabytes": round(megabytes, 2), **figures, **machine}))


if __name__ == "__main__":
    main()
