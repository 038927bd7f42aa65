"""The loader beside stock per-sample webdataset on the same samples, and how soon, and in how much memory, it begins.

python benchmarks/loader.py [--folder FOLDER] [--repeats 5] [--samples 10000000]

Samples are made up, of up to 128 tokens, 105 on average. Figures are of one process: its time on all its threads, so
that others on the machine do not count. The data set of millions is one shard under many names. The last line is one
JSON object.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import dataclasses
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
import webdataset

from data_tools.samples.columns import Samples
from data_tools.samples.masks import MaskConfig
from data_tools.shards import tar
from data_tools.shards.assembly import ShardConfig, assemble
from data_tools.shards.manifest import Manifest, Shard, SplitEntry
from data_tools.text.interface import Vocabulary
from litebert.data.batch import Counts, MicroBatch, micro_batch
from litebert.data.columns import Columns, join
from litebert.data.digest import planned_digests
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.plan.processor import processor
from litebert.train.audit import audit
from litebert.train.commit import commit
from litebert.train.ledger import RECORD

VOCABULARY = 21128
SHARD_SAMPLES, BLOCK_SAMPLES = 65536, 256
CONFIG = DataConfig(global_batch=1024, micro_tokens=32768)
STOCK_SAMPLES = 8192
COLUMNS = tuple(field.name for field in dataclasses.fields(Columns) if field.name != "soft")  # none is beside them


def made_up(count: int) -> Samples:
    """Two samples of three are about full, as packing leaves them; the others are ends of documents."""
    rng = np.random.default_rng(0)
    lengths = np.where(rng.random(count) < 2 / 3, rng.integers(112, 129, count), rng.integers(16, 129, count))
    begins = np.cumsum(lengths) - lengths
    first = (lengths - 3) // 2
    ids = rng.integers(200, VOCABULARY, int(lengths.sum()), np.int32)
    ids[begins] = 2
    ids[begins + first + 1] = ids[begins + lengths - 1] = 3
    return Samples(
        ids=ids,
        words=np.ones(len(ids), bool),
        lengths=lengths.astype(np.int64),
        first=first.astype(np.int64),
        order=rng.integers(0, 2, count).astype(np.int8),
        documents=rng.integers(0, 2**64, count, np.uint64),
        numbers=np.zeros(count, np.uint32),
        sources=np.zeros(count, np.uint16),
    )


def make(folder: Path, samples: Samples, shards: int) -> None:
    """A folder of shards that are all the same one; keys, which a ledger tells samples by, are each sample's own."""
    folder.mkdir(parents=True)
    vocabulary = Vocabulary(
        size=VOCABULARY, pad=0, unk=1, cls=2, sep=3, mask=4, replacements=np.arange(200, VOCABULARY, dtype=np.int32)
    )
    config = ShardConfig(SHARD_SAMPLES, BLOCK_SAMPLES)
    made = assemble(folder / "train-00000.tar", samples, 0, MaskConfig(), config, vocabulary, 1)
    for number in range(1, shards):
        (folder / f"train-{number:05d}.tar").hardlink_to(folder / "train-00000.tar")
    columns = {
        **{name: np.tile(column, shards) for name, column in made.columns.items()},
        "keys": np.random.default_rng(1).integers(0, 2**64, shards * len(samples), np.uint64),
        "unigram": np.bincount(samples.ids, minlength=VOCABULARY),
    }
    for name, column in columns.items():
        np.save(folder / f"train.{name}.npy", column)
    each: list[Shard] = [dataclasses.replace(made.shard, name=f"train-{n:05d}.tar") for n in range(shards)]
    entry = SplitEntry(
        documents=1,
        characters=1,
        samples=shards * len(samples),
        tokens=shards * made.shard.tokens,
        pairs=shards * len(samples),
        masked=[int(made.columns["counts"].sum()) * shards],
        shards=each,
        index={name: tar.sha256(folder / f"train.{name}.npy") for name in columns},
        sources={},
        fairness={},
    )
    config_of = {"pairs": {"seq_length": 128, "objective": "sop"}}
    Manifest("", "", VOCABULARY, "", "", config_of, 1, {}, {"train": entry}, []).save(folder)


def stock(path: Path, split: Split) -> None:
    """The first samples of a split, one to a key, with the same members."""
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(STOCK_SAMPLES):
            block = split.columns(number // BLOCK_SAMPLES, 0)
            one = block.take(np.array([number % BLOCK_SAMPLES]))
            writer.write(
                {"__key__": f"{number:08d}", **{f"{name}.npy": dumped(getattr(one, name)) for name in COLUMNS}}
            )


def dumped(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def stock_batches(path: Path) -> Iterator[MicroBatch]:
    """What webdataset reads, shuffled as it shuffles, batched into the same micro-batches."""
    dataset = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False).shuffle(1000).decode()
    held: list[Columns] = []
    for sample in dataset:
        held.append(Columns(*(sample[f"{name}.npy"] for name in COLUMNS)))
        if len(held) == BLOCK_SAMPLES:
            yield micro_batch(join(held), np.arange(len(held)), Counts(0, len(held), 0, 0))
            held = []


def rate(batches: Iterator[MicroBatch]) -> float:
    """Samples per second of process time."""
    begin, samples = time.process_time(), 0
    for batch in batches:
        samples += len(batch.order)
    return samples / (time.process_time() - begin)


def loaded(split: Split, steps: int, rank: int = 0, world_size: int = 1) -> Iterator[MicroBatch]:
    for step in Loader(split, CONFIG, rank, world_size, 0, steps):
        yield from step.micro_batches


def speeds(folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    split = Split(folder / "large", "train")
    stock(folder / "stock.tar", split)
    steps = 6 * SHARD_SAMPLES // CONFIG.global_batch
    entries = {
        "litebert": lambda: loaded(split, steps),
        "litebert_rank_of_8": lambda: loaded(split, steps, rank=3, world_size=8),
        "webdataset": lambda: stock_batches(folder / "stock.tar"),
    }
    found: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(repeats):
        for name, batches in entries.items():
            found[name].append(rate(batches()))
    print(f"samples/s per core, decoded and batched; {repeats} repeats in turn: median (least to most)")
    for name, values in found.items():
        print(f"{name:20} {statistics.median(values):10,.0f} ({min(values):,.0f} to {max(values):,.0f})")
    return {
        name: {"median": round(statistics.median(v)), "least": round(min(v)), "most": round(max(v))}
        for name, v in found.items()
    }


FIRST = """
import json, sys, time
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
begin = time.process_time()
split = Split(sys.argv[1], "train")
opened = time.process_time()
start = int(sys.argv[2])
step = next(iter(Loader(split, DataConfig(global_batch=1024, micro_tokens=32768), 0, 1, start, start + 1)))
assert step.number == start and sum(len(batch.order) for batch in step.micro_batches) == 1024
print(json.dumps([time.process_time() - begin, opened - begin, begin]))
"""


def first_batch(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of process time until a process that resumes near the end of the third epoch has its first batch."""
    samples = Split(folder, "train").samples
    start = int(2.9 * samples) // 1024
    found = []
    for _ in range(repeats):
        command = [sys.executable, "-c", FIRST, str(folder), str(start)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    total, opened, imports = (statistics.median(column) for column in zip(*found, strict=True))
    worst = max(row[0] for row in found)
    print(f"first batch of {samples:,} samples, at step {start:,}: {total:.2f} s (most {worst:.2f}) after imports,")
    print(f"    of which opening manifest and index {opened:.2f} s; the imports, torch among them, {imports:.2f} s")
    return {"seconds_to_first_batch": round(total, 3), "most": round(worst, 3), "seconds_to_open": round(opened, 3)}


def memory(folder: Path) -> dict[str, float]:
    """Resident memory in the quarters of an epoch, MB."""
    split = Split(folder, "train")
    process = psutil.Process()
    steps = split.samples // CONFIG.global_batch
    most = [0.0] * 4
    for number, _ in enumerate(Loader(split, CONFIG, 0, 1, 0, steps)):
        quarter = number * 4 // steps
        most[quarter] = max(most[quarter], process.memory_info().rss / 1e6)
    print(f"resident over an epoch of {split.samples:,} samples, MB, most in each quarter: {[round(m) for m in most]}")
    return {"rss_growth_mb": round(most[3] - most[0], 1), "rss_mb": round(most[3], 1)}


def verification(folder: Path, steps: int) -> dict[str, float]:
    """Seconds to hold the ledger of an epoch in so many steps to the plan."""
    split = Split(folder, "train")
    batch = split.samples // steps
    plan = Plan(split, dataclasses.replace(CONFIG, global_batch=batch))
    records = np.zeros(steps, RECORD)
    records["step"], records["samples"], records["value"] = np.arange(steps), batch, planned_digests(plan, steps)
    begin = time.process_time()
    assert not audit(records, plan, batch).difference
    seconds = time.process_time() - begin
    print(f"verified {steps:,} steps of {batch}, {steps * batch:,} samples, in {seconds:.1f} s")
    return {"seconds_to_verify": round(seconds, 2), "verified_samples_per_s": round(steps * batch / seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where the shards are made, about 300 MB; a temporary one if not said"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, samples = Path(name), made_up(SHARD_SAMPLES)
        make(folder / "large", samples, -(-options.samples // SHARD_SAMPLES))
        make(folder / "small", samples, 8)
        figures: dict[str, object] = dict(speeds(folder, options.repeats))
        figures |= first_batch(folder / "large", options.repeats)
        figures |= memory(folder / "small")
        figures |= verification(folder / "large", options.samples // 10)
    speed = figures["litebert"]["median"]  # type: ignore[index]
    figures["samples_per_s_per_core"] = speed
    figures["ratio_vs_webdataset"] = round(speed / figures["webdataset"]["median"], 1)  # type: ignore[index]
    versions = {"torch": torch.__version__, "numpy": np.__version__, "webdataset": webdataset.__version__}
    machine = {"processor": processor(), "versions": versions | {"python": platform.python_version()}}
    print(json.dumps({**figures, **machine, "commit": commit()}))


if __name__ == "__main__":
    main()
