"""From corpus files to a folder of shards, on any number of processes, with the same bytes from any number.

files ─▶ batches of documents ─▶ prepare (workers) ─▶ spills, sorted by random key
                                                         │
                    manifest.json ◀─ assemble (workers) ◀┘   one range of keys is one shard
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from data_tools.documents.clean import CleanConfig
from data_tools.documents.document import Document, Rejected
from data_tools.documents.files import File, find_files, fingerprint
from data_tools.documents.filters import FilterConfig
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.progress import Progress
from data_tools.samples import spill
from data_tools.samples.masks import MaskConfig
from data_tools.samples.pairs import PairConfig
from data_tools.samples.preparation import SPLITS, prepare
from data_tools.shards import manifest, tar
from data_tools.shards.assembly import Assembled, ShardConfig, assemble
from data_tools.shards.manifest import Manifest, SplitEntry
from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from data_tools.text.interface import TextTokenizer
from data_tools.text.words import SEGMENTER

_BATCH_CHARACTERS = 1_000_000
_REJECTED_CHARACTERS = 100  # what one that is no document counts for
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
    """What became of a batch.

    Attributes:
        read: documents, and whatever was rejected in place of one.
        broken_bytes: in them.
        documents: kept, by split.
        characters: kept, by split.
        rejected: by reason.
        samples: by split.
        rejects: a line of JSON for each that was rejected, if they are to be kept.
    """

    read: int = 0
    broken_bytes: int = 0
    documents: Counter[str] = dataclasses.field(default_factory=Counter)
    characters: Counter[str] = dataclasses.field(default_factory=Counter)
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)
    samples: Counter[str] = dataclasses.field(default_factory=Counter)
    rejects: bytes = b""


def build(
    inputs: Sequence[str | Path],
    tokenizer: Path,
    output: Path,
    config: BuildConfig,
    workers: int = 1,
    rejects: Path | None = None,
) -> Manifest:
    """Build the shards of a corpus into a new folder, or find them there already built.

    ``rejects`` names a file for all that is rejected, as jsonl: files and records that could not be read with their
    place and what is wrong with them, documents that were not kept with their text.

    Raises ValueError if the folder holds anything else, or the corpus leaves a split empty.
    """
    files = find_files(inputs)
    spoken = load_tokenizer(tokenizer)
    identity: dict[str, Any] = {
        "format": manifest.FORMAT,
        "inputs": fingerprint(files),
        "tokenizer": spoken.fingerprint,
        "segmenter": SEGMENTER,
        "config": dataclasses.asdict(config),
    }
    name = manifest.fingerprint(identity)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        found = _already_built(output, name)
        if rejects is not None and not rejects.exists():
            raise ValueError(f"{output} is already built; for its rejects in {rejects}, build into another --output")
        return found
    partial = output.with_name(f".{output.name}.{name[:8]}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        result = _build_into(partial, files, spoken, config, workers, identity, rejects)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if output.exists():
        output.rmdir()
    os.replace(partial, output)
    return result


def _build_into(
    partial: Path,
    files: list[File],
    spoken: TextTokenizer,
    config: BuildConfig,
    workers: int,
    identity: dict[str, Any],
    rejects: Path | None,
) -> Manifest:
    with contextlib.ExitStack() as stack:
        kept = None if rejects is None else stack.enter_context(rejects.open("wb"))
        executor = stack.enter_context(_workers(workers, spoken, config))
        tally = _prepare_all(files, config, partial, executor, workers, kept)
        splits = {split: _assemble_all(split, tally, config, spoken, partial, executor, workers) for split in SPLITS}
    shutil.rmtree(partial / "spills")
    save_tokenizer(spoken, partial / "tokenizer")
    result = Manifest(
        build=manifest.fingerprint(identity),
        tokenizer=spoken.fingerprint,
        tokenizer_kind=spoken.KIND,
        vocab_size=spoken.vocab_size,
        segmenter=SEGMENTER,
        inputs=identity["inputs"],
        config=identity["config"],
        documents_read=tally.read,
        rejected=dict(sorted(tally.rejected.items())),
        splits=splits,
        broken_bytes=tally.broken_bytes,
    )
    result.save(partial)
    return result


def _already_built(output: Path, name: str) -> Manifest:
    try:
        found = Manifest.load(output)
    except (ValueError, NotADirectoryError):
        raise ValueError(f"{output} exists and is not a folder of shards; give another --output") from None
    if found.build != name:
        raise ValueError(f"{output} holds shards of other text, config or tokenizer; give another --output")
    for shard in (shard for split in found.splits.values() for shard in split.shards):
        path = output / shard.name
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise ValueError(f"{path} is missing or cut off; remove {output} and build again")
    return found


def _prepare_all(
    files: list[File],
    config: BuildConfig,
    folder: Path,
    executor: Executor | None,
    workers: int,
    rejects: BinaryIO | None,
) -> Tally:
    """Spill the samples of every batch of documents; the tally is of the whole corpus."""
    tally = Tally()
    read = broken_bytes = 0
    batches = enumerate(_batches(files, config.reader))
    work = ((number, batch, folder / "spills", rejects is not None) for number, batch in batches)
    with Progress("documents to samples", "documents") as progress:
        for one in _mapped(_prepare_batch, work, executor, workers):
            read += one.read
            broken_bytes += one.broken_bytes
            for name in ("documents", "characters", "rejected", "samples"):
                getattr(tally, name).update(getattr(one, name))
            if rejects is not None:
                rejects.write(one.rejects)
            progress.advance(one.read)
    tally = dataclasses.replace(tally, read=read, broken_bytes=broken_bytes)
    if empty := [split for split in SPLITS if not tally.samples[split]]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.rejected.items())) or "none"
        raise ValueError(
            f"no Chinese text for the {' or '.join(empty)} split: {read} documents read from {files[0]}"
            f"{f' and {len(files) - 1} more' if files[1:] else ''}, rejected: {reasons}; give more text"
            " (a plain text file is one document unless blank lines part it:"
            " --reader.plain_text line, in the demo PLAIN_TEXT=line)"
        )
    return tally


def _assemble_all(
    split: str,
    tally: Tally,
    config: BuildConfig,
    tokenizer: TextTokenizer,
    folder: Path,
    executor: Executor | None,
    workers: int,
) -> SplitEntry:
    shards = -(-tally.samples[split] // config.shards.samples_per_shard)
    work = ((split, part, shards, folder) for part in range(shards))
    assembled: list[Assembled] = []
    with Progress(f"samples to {split} shards", "samples", tally.samples[split]) as progress:
        for one in _mapped(_assemble_shard, work, executor, workers):
            if one is not None:
                assembled.append(one)
                progress.advance(len(one.lengths))
    columns = {
        "lengths": np.concatenate([one.lengths for one in assembled]),
        "counts": np.concatenate([one.counts for one in assembled], axis=1),
        "paired": np.concatenate([one.paired for one in assembled]),
        "keys": np.concatenate([one.keys for one in assembled]),
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


def _batches(files: list[File], config: ReaderConfig) -> Iterator[list[Document | Rejected]]:
    batch: list[Document | Rejected] = []
    characters = 0
    for item in read_documents(files, config):
        batch.append(item)
        characters += len(item.text) if isinstance(item, Document) else _REJECTED_CHARACTERS
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


# In a worker: what every task needs, loaded once.
_task: tuple[TextTokenizer, BuildConfig]


def _start_worker(kind: type[TextTokenizer], model: bytes, config: BuildConfig) -> None:
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on
    _task = (kind(model, "the tokenizer"), config)


def _prepare_batch(number: int, items: list[Document | Rejected], folder: Path, keep_rejects: bool) -> Tally:
    tokenizer, config = _task
    documents = [item for item in items if isinstance(item, Document)]
    unread = [item for item in items if isinstance(item, Rejected)]
    share = config.shards.heldout_share
    prepared = prepare(documents, tokenizer, config.clean, config.filter, config.pairs, share, config.seed)
    for split, samples in prepared.samples.items():
        spill.write(folder / split / f"{number:06d}", samples, config.seed)
    samples_of = Counter({split: len(samples) for split, samples in prepared.samples.items()})
    return Tally(
        read=len(items),
        broken_bytes=sum(item.broken_bytes for item in items),
        documents=prepared.documents,
        characters=prepared.characters,
        rejected=prepared.rejected + Counter(item.reason for item in unread),
        samples=samples_of,
        rejects=_reject_lines(unread, prepared.rejects) if keep_rejects else b"",
    )


def _reject_lines(unread: list[Rejected], rejects: list[tuple[Document, str]]) -> bytes:
    records = [dataclasses.asdict(item) for item in unread]
    records += [{"reason": reason, **dataclasses.asdict(document)} for document, reason in rejects]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode(errors="replace")


def _assemble_shard(split: str, part: int, parts: int, folder: Path) -> Assembled | None:
    """None where chance gave the shard's range of keys to no sample."""
    tokenizer, config = _task
    samples = spill.gather(sorted((folder / "spills" / split).iterdir()), part, parts, config.seed)
    if not len(samples):
        return None
    path = folder / f"{split}-{part:05d}.tar"
    return assemble(path, samples, part, config.masks, config.shards, tokenizer.vocabulary, config.seed)


@contextlib.contextmanager
def _workers(count: int, tokenizer: TextTokenizer, config: BuildConfig) -> Iterator[Executor | None]:
    """A pool of worker processes; for one worker none, the work is then done here."""
    if count < 1:
        raise ValueError(f"--workers {count}: at least one is needed")
    if count == 1:
        global _task
        _task = (tokenizer, config)
        yield None
        return
    context = multiprocessing.get_context("spawn")
    task = (type(tokenizer), tokenizer.model, config)
    pool = ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=task)
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
