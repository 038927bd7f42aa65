"""From corpus files to a folder of shards, on any number of processes, with the same bytes from any number.

files ─▶ batches of documents ─▶ prepare (workers) ─▶ spills, sorted by random key
                                                         │
                    manifest.json ◀─ assemble (workers) ◀┘   one range of keys is one shard
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_tools.documents.clean import CleanConfig
from data_tools.documents.document import Document
from data_tools.documents.filters import FilterConfig
from data_tools.documents.readers import ReaderConfig, find_files, fingerprint, read_documents
from data_tools.progress import Progress
from data_tools.samples import spill
from data_tools.samples.masks import MaskConfig
from data_tools.samples.pairs import PairConfig
from data_tools.samples.preparation import SPLITS, prepare
from data_tools.shards import manifest, tar
from data_tools.shards.assembly import Assembled, ShardConfig, assemble
from data_tools.shards.manifest import Manifest, SplitEntry
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.tokenizer import Tokenizer
from data_tools.text.words import SEGMENTER

_BATCH_CHARACTERS = 1_000_000
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """Everything the shards depend on, besides the text and the tokenizer.

    Attributes:
        reader: how files become documents.
        clean: what leaves the text of a document.
        filter: which documents are kept.
        pairs: how documents become samples.
        masks: how samples are masked.
        shards: how samples lie in files.
        seed: of the split, the pairs, the masks and the order.
    """

    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    clean: CleanConfig = dataclasses.field(default_factory=CleanConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    pairs: PairConfig = dataclasses.field(default_factory=PairConfig)
    masks: MaskConfig = dataclasses.field(default_factory=MaskConfig)
    shards: ShardConfig = dataclasses.field(default_factory=ShardConfig)
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Tally:
    """What became of a batch: documents, characters and samples kept, by split; documents rejected, by reason."""

    read: int
    documents: Counter[str]
    characters: Counter[str]
    rejected: Counter[str]
    samples: Counter[str]


def build(inputs: Sequence[Path], tokenizer: Path, output: Path, config: BuildConfig, workers: int = 1) -> Manifest:
    """Build the shards of a corpus into a new folder, or find them there already built.

    Raises ValueError if the folder holds anything else, or the corpus leaves a split empty.
    """
    files = find_files(inputs)
    spoken = Tokenizer.load(tokenizer)
    identity: dict[str, Any] = {
        "format": manifest.FORMAT,
        "inputs": fingerprint(files),
        "tokenizer": spoken.fingerprint,
        "segmenter": SEGMENTER,
        "config": dataclasses.asdict(config),
    }
    name = manifest.fingerprint(identity)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        return _already_built(output, name)
    partial = output.with_name(f".{output.name}.{name[:8]}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with _workers(workers, spoken, config) as executor:
        tally = _prepare_all(files, config, partial, executor, workers)
        splits = {split: _assemble_all(split, tally, config, spoken, partial, executor, workers) for split in SPLITS}
    shutil.rmtree(partial / "spills")
    save_tokenizer(spoken, partial / "tokenizer")
    result = Manifest(
        build=name,
        tokenizer=spoken.fingerprint,
        vocab_size=spoken.vocab_size,
        segmenter=SEGMENTER,
        inputs=identity["inputs"],
        config=identity["config"],
        documents_read=tally.read,
        rejected=dict(sorted(tally.rejected.items())),
        splits=splits,
    )
    result.save(partial)
    if output.exists():
        output.rmdir()
    os.replace(partial, output)
    return result


def _already_built(output: Path, name: str) -> Manifest:
    try:
        found = Manifest.load(output)
    except (ValueError, NotADirectoryError):
        raise ValueError(f"{output} exists and is not a folder of shards; give another --output") from None
    if found.build != name:
        raise ValueError(f"{output} holds shards of other text, config or tokenizer; give another --output")
    return found


def _prepare_all(
    files: list[Path], config: BuildConfig, folder: Path, executor: Executor | None, workers: int
) -> Tally:
    """Spill the samples of every batch of documents; the tally is of the whole corpus."""
    tally = Tally(0, Counter(), Counter(), Counter(), Counter())
    read = 0
    work = ((number, batch, folder / "spills") for number, batch in enumerate(_batches(files, config.reader)))
    with Progress("documents to samples", "documents") as progress:
        for one in _mapped(_prepare_batch, work, executor, workers):
            read += one.read
            for name in ("documents", "characters", "rejected", "samples"):
                getattr(tally, name).update(getattr(one, name))
            progress.advance(one.read)
    tally = dataclasses.replace(tally, read=read)
    if empty := [split for split in SPLITS if not tally.samples[split]]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.rejected.items())) or "none"
        raise ValueError(
            f"no Chinese text for the {' or '.join(empty)} split: {read} documents read from {files[0]}"
            f"{f' and {len(files) - 1} more' if files[1:] else ''}, rejected: {reasons}; give more text"
            " (a plain text file is one document unless blank lines part it: --reader.plain_text line)"
        )
    return tally


def _assemble_all(
    split: str,
    tally: Tally,
    config: BuildConfig,
    tokenizer: Tokenizer,
    folder: Path,
    executor: Executor | None,
    workers: int,
) -> SplitEntry:
    shards = -(-tally.samples[split] // config.shards.samples_per_shard)
    work = ((split, part, shards, folder) for part in range(shards))
    assembled: list[Assembled] = []
    with Progress(f"samples to {split} shards", "samples", tally.samples[split]) as progress:
        for one in _mapped(_assemble_shard, work, executor, workers):
            assembled.append(one)
            progress.advance(len(one.lengths))
    columns = {
        "lengths": np.concatenate([one.lengths for one in assembled]),
        "counts": np.concatenate([one.counts for one in assembled], axis=1),
        "paired": np.concatenate([one.paired for one in assembled]),
        "unigram": np.sum([one.unigram for one in assembled], axis=0),
    }
    for name, column in columns.items():
        np.save(folder / f"{split}.{name}.npy", column, allow_pickle=False)
    return SplitEntry(
        documents=tally.documents[split],
        characters=tally.characters[split],
        samples=tally.samples[split],
        tokens=sum(one.shard.tokens for one in assembled),
        pairs=int(columns["paired"].sum()),
        masked=columns["counts"].sum(axis=1, dtype=np.int64).tolist(),
        shards=[one.shard for one in assembled],
        index={name: tar.sha256(folder / f"{split}.{name}.npy") for name in columns},
    )


def _batches(files: list[Path], config: ReaderConfig) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in read_documents(files, config):
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


# In a worker: what every task needs, loaded once.
_task: tuple[Tokenizer, BuildConfig]


def _start_worker(tokenizer: bytes, config: BuildConfig) -> None:
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    _task = (Tokenizer(tokenizer, "the tokenizer"), config)


def _prepare_batch(number: int, documents: list[Document], folder: Path) -> Tally:
    tokenizer, config = _task
    share = config.shards.heldout_share
    prepared = prepare(documents, tokenizer, config.clean, config.filter, config.pairs, share, config.seed)
    for split, samples in prepared.samples.items():
        spill.write(folder / split / f"{number:06d}", samples, config.seed)
    samples_of = Counter({split: len(samples) for split, samples in prepared.samples.items()})
    return Tally(len(documents), prepared.documents, prepared.characters, prepared.rejected, samples_of)


def _assemble_shard(split: str, part: int, parts: int, folder: Path) -> Assembled:
    tokenizer, config = _task
    samples = spill.gather(sorted((folder / "spills" / split).iterdir()), part, parts, config.seed)
    path = folder / f"{split}-{part:05d}.tar"
    return assemble(path, samples, part, config.masks, config.shards, tokenizer.vocab_size, config.seed)


@contextlib.contextmanager
def _workers(count: int, tokenizer: Tokenizer, config: BuildConfig) -> Iterator[Executor | None]:
    """A pool of worker processes; for one worker none, the work is then done here."""
    if count < 1:
        raise ValueError(f"--workers {count}: at least one is needed")
    if count == 1:
        global _task
        _task = (tokenizer, config)
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=(tokenizer.model, config))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _mapped(
    function: Callable[..., _R], work: Iterable[tuple[Any, ...]], executor: Executor | None, workers: int
) -> Iterator[_R]:
    """The results in order of the work, with no more of it in memory than keeps the workers busy."""
    if executor is None:
        yield from (function(*arguments) for arguments in work)
        return
    pending: deque[Future[_R]] = deque()
    for arguments in work:
        pending.append(executor.submit(function, *arguments))
        if len(pending) > 2 * workers:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
