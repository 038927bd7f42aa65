"""From corpus files to a folder of shards: restartable, on any number of processes, the same bytes from any number.

files ─▶ reading ─▶ raw parts ─▶ cleaning ─▶ kept parts ─▶ sampling ─▶ runs, sorted by random key
                                                 │                       │
                             sources, numbered ◀─┘   totals, merging  ◀──┘
                                                         │
                        output ◀─ publication ◀─ assembling: one range of keys is one shard

Each step is a stage (``data_tools.work``): its items are done by an executor, and stay finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import data_tools
from data_tools.documents.clean import CleanConfig
from data_tools.documents.files import File, Found, find_files, fingerprint, inspect
from data_tools.documents.filters import FilterConfig
from data_tools.documents.mixture import MixConfig
from data_tools.documents.reader_config import ReaderConfig
from data_tools.executors.interface import Executor, Steps
from data_tools.executors.local import LocalExecutor
from data_tools.progress import Progress
from data_tools.publication import publish, write_rejects
from data_tools.samples.masks import MaskConfig
from data_tools.samples.pairs import PairConfig
from data_tools.shards import manifest
from data_tools.shards.assembly import ShardConfig
from data_tools.shards.manifest import Manifest
from data_tools.stages.assembling import Assembling
from data_tools.stages.cleaning import Cleaning
from data_tools.stages.merging import Merging
from data_tools.stages.reading import PARTS, Reading
from data_tools.stages.sampling import Sampling
from data_tools.stages.sources import Sources
from data_tools.stages.totals import Totalling
from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from data_tools.text.words import SEGMENTER
from data_tools.work import Work, locked, remove_stale, work_folder

PART_CHARACTERS = 4_000_000
GROUP_BYTES = 8_000_000


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """Everything the shards depend on, besides the text and the tokenizer.

    Attributes:
        reader: how files become documents.
        clean: what leaves the text of a document.
        filter: which documents are kept.
        mix: how often the documents of each source are taken.
        pairs: how documents become samples.
        masks: how samples are masked.
        shards: how samples lie in files.
        seed: of the split, the mix, the pairs, the masks and the order.
    """

    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    clean: CleanConfig = dataclasses.field(default_factory=CleanConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    mix: MixConfig = dataclasses.field(default_factory=MixConfig)
    pairs: PairConfig = dataclasses.field(default_factory=PairConfig)
    masks: MaskConfig = dataclasses.field(default_factory=MaskConfig)
    shards: ShardConfig = dataclasses.field(default_factory=ShardConfig)
    seed: int = 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """The stages of a build.

    Attributes:
        steps: for the executor.
        dropping: names of the stages that do not keep every document, in order.
        assembling: the last stage.
    """

    steps: Steps
    dropping: tuple[str, ...]
    assembling: Assembling

    @classmethod
    def of(cls, work: Work, files: Sequence[Found], config: BuildConfig) -> Plan:
        """The stages that build the shards of the files.

        A stage that is to take more documents away stands between ``cleaning`` and ``sampling``, has the same items,
        leaves a KeptPart for each, and is named to ``sampling`` as its input.
        """
        described = f"{files[0].file}{f' and {len(files) - 1} more' if files[1:] else ''}"
        reading = Reading(work, _groups(files), config.reader, PART_CHARACTERS)
        cleaning = Cleaning(work, config.clean, config.filter)
        sources = Sources(work, config.mix, cleaning.name)
        share = config.shards.heldout_share
        sampling = Sampling(work, cleaning.name, config.mix, share, config.pairs, config.seed)
        dropping = (cleaning.name, sampling.name)
        totalling = Totalling(work, dropping, described)
        merging = Merging(work, sampling.name)
        assembling = Assembling(work, merging, config.masks, config.shards, config.seed)
        steps = ((reading, cleaning), (sources,), (sampling,), (totalling,), (merging,), (assembling,))
        return cls(steps, dropping, assembling)


def build(
    inputs: Sequence[str | Path],
    tokenizer: Path,
    output: Path,
    config: BuildConfig,
    workers: int = 1,
    rejects: Path | None = None,
    executor: Executor | None = None,
) -> Manifest:
    """Build the shards of a corpus into a new folder, or find them there already built.

    A build that ended before it was done goes on where it was, if its input and config are the same.

    Args:
        workers: processes of this machine that do the work.
        rejects: a file for all that is rejected, as jsonl: files and records that could not be read with their place
            and what is wrong with them, documents that were not kept with their text.
        executor: who does the work instead of processes of this machine.

    Raises ValueError if the folder holds anything else, or the corpus leaves a split empty.
    """
    executor = executor or LocalExecutor(workers)
    spoken = load_tokenizer(tokenizer)
    files = inspect(find_files(inputs), workers)
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
        remove_stale(output)
        return found
    folder = work_folder(output, manifest.fingerprint({**identity, "code": _code(), "part": PART_CHARACTERS}))
    remove_stale(output, but=folder)
    with locked(folder) as work:
        if not (work.folder / "tokenizer").exists():
            save_tokenizer(spoken, work.folder / ".tokenizer")
            (work.folder / ".tokenizer").rename(work.folder / "tokenizer")
        plan = Plan.of(work, files, config)
        try:
            executor.run(work, plan.steps)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"what is done is kept in {folder}: the same command goes on") from None
        if rejects is not None:
            with Progress("rejects", "parts", len(work.finished(PARTS))) as progress:
                write_rejects(work, plan.dropping, rejects, progress.advance)
        described = {
            "build": name,
            "tokenizer": spoken.fingerprint,
            "tokenizer_kind": spoken.KIND,
            "vocab_size": spoken.vocab_size,
            "segmenter": SEGMENTER,
            "inputs": identity["inputs"],
            "config": identity["config"],
        }
        result = publish(work, plan.assembling, described, output)
        shutil.rmtree(work.folder)
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


def _groups(files: Sequence[Found]) -> tuple[tuple[File, ...], ...]:
    """Consecutive files, as many as make a sensible piece of work; a large file is a group of its own."""
    groups: list[list[File]] = [[]]
    size = 0
    for found in files:
        if groups[-1] and size + found.bytes > GROUP_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(found.file)
        size += found.bytes
    return tuple(map(tuple, groups))


def _code() -> str:
    """SHA-256 of this package: what another version of it left half-done is not gone on with."""
    digest = hashlib.sha256()
    for path in sorted(Path(os.path.dirname(data_tools.__file__)).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
