"""From corpus files to a folder of shards: restartable, on any number of processes, the same bytes from any number.

files ─▶ reading ─▶ raw parts ─▶ cleaning ─▶ kept parts ─▶ sampling ─▶ runs, sorted by random key
                                                 │  │       ▲            │
                             sources, numbered ◀─┘  └▶ dedup┘            │
                                                     totals, merging  ◀──┘
                                                         │
                        output ◀─ publication ◀─ assembling: one range of keys is one shard

Each step is a stage (``data_tools.work``): its items are done by an executor, and stay finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.dedup.config import DedupConfig
from data_tools.dedup.contamination import unread_evaluation
from data_tools.dedup.corpus import Corpus
from data_tools.dedup.stages import dedup_stages
from data_tools.dedup.verdict import Deduplicated
from data_tools.documents.clean import CleanConfig
from data_tools.documents.files import File, Found, check_outside, find_files, fingerprint, inspect
from data_tools.documents.filters import FilterConfig
from data_tools.documents.mixture import MixConfig
from data_tools.documents.reader_config import ReaderConfig
from data_tools.executors.interface import Executor, Steps
from data_tools.executors.local import LocalExecutor
from data_tools.progress import Progress
from data_tools.publication import publish
from data_tools.rejects import check_free, check_kept, check_writable, write_rejects
from data_tools.samples.masks import MaskConfig
from data_tools.samples.pairs import PairConfig
from data_tools.shards import manifest
from data_tools.shards.assembly import ShardConfig
from data_tools.shards.manifest import Manifest
from data_tools.stages.assembling import Assembling
from data_tools.stages.cleaning import Cleaning, canonical_text
from data_tools.stages.merging import Merging
from data_tools.stages.reading import PARTS, Reading
from data_tools.stages.sampling import Sampling
from data_tools.stages.sources import Sources
from data_tools.stages.totals import Totalling
from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from data_tools.text.words import Segmenter, WordsConfig
from data_tools.work import Work, code_fingerprint, locked, remove_stale, work_folder

PART_CHARACTERS = 4_000_000
GROUP_BYTES = 8_000_000


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """Everything the shards depend on, besides the text and the tokenizer.

    Attributes:
        reader: how files become documents.
        clean: what leaves the text of a document.
        filter: which documents are kept.
        dedup: which of them are left out because they are there twice, or are evaluation text.
        mix: how often the documents of each source are taken.
        words: what a word is.
        pairs: how documents become samples.
        masks: how samples are masked.
        shards: how samples lie in files.
        seed: of the split, the mix, the pairs, the masks and the order.
    """

    reader: ReaderConfig = dataclasses.field(default_factory=ReaderConfig)
    clean: CleanConfig = dataclasses.field(default_factory=CleanConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    dedup: DedupConfig = dataclasses.field(default_factory=DedupConfig)
    mix: MixConfig = dataclasses.field(default_factory=MixConfig)
    words: WordsConfig = dataclasses.field(default_factory=WordsConfig)
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
    def of(
        cls, work: Work, files: Sequence[Found], evaluation: Sequence[Found], segmenter: Segmenter, config: BuildConfig
    ) -> Plan:
        """The stages that build the shards of the files without the text of the evaluation files."""
        described = f"{files[0].file}{f' and {len(files) - 1} more' if files[1:] else ''}"
        reading = Reading(work, _groups(files), config.reader, PART_CHARACTERS)
        cleaning = Cleaning(work, config.clean, config.filter, config.dedup)
        sources = Sources(work, config.mix, cleaning.name)
        share = config.shards.heldout_share
        corpus = Corpus(work, cleaning.name)
        canonical = functools.partial(canonical_text, folder=work.folder, config=config.clean)
        dedup = dedup_stages(corpus, config.dedup, canonical, [found.file for found in evaluation])
        kept = Deduplicated(corpus, config.dedup)
        sampling = Sampling(work, kept, config.mix, share, segmenter, config.pairs, config.seed)
        dropping = (cleaning.name, sampling.name)
        totalling = Totalling(work, dropping, described)
        merging = Merging(work, sampling.name)
        assembling = Assembling(work, merging, config.masks, config.shards, config.seed)
        steps = (
            (reading, cleaning),
            (sources,),
            *((stage,) for stage in dedup),
            (sampling,),
            (totalling,),
            (merging,),
            (assembling,),
        )
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
            and what is wrong with them, documents that were not kept with their text. It must not be there, unless the
            build is already done and it holds its rejects.
        executor: who does the work instead of processes of this machine.

    Raises ValueError if the folder holds anything else or lies within the input, another build makes it at the moment,
    or the corpus leaves a split empty.
    """
    check_outside("--output", output, inputs)
    if rejects is not None:
        check_outside("--rejects", rejects, [*inputs, output])
        check_writable(rejects)
    executor = executor or LocalExecutor(workers)
    spoken = load_tokenizer(tokenizer)
    segmenter = Segmenter.load(config.words, spoken.canonical)
    files = inspect(find_files(inputs), workers)
    evaluation = inspect(find_files(config.dedup.evaluation.files), workers) if config.dedup.evaluation.files else []
    described: dict[str, Any] = {
        "inputs": fingerprint([*files, *evaluation]),
        "tokenizer": spoken.fingerprint,
        "segmenter": segmenter.name,
        "config": dataclasses.asdict(config),
    }
    name = manifest.build_fingerprint(**described)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        found = manifest.already_built(output, name)
        if rejects is not None:
            check_kept(rejects, output, found)
        with contextlib.suppress(ValueError):  # of a build at work there, which will find the output taken
            remove_stale(output)
        return found
    folder = work_folder(
        output, manifest.fingerprint({"build": name, "code": code_fingerprint(), "part": PART_CHARACTERS})
    )
    remove_stale(output, but=folder)
    with locked(folder) as work:
        if rejects is not None:
            check_free(work, rejects)
        if not (work.folder / "tokenizer").exists():
            save_tokenizer(spoken, work.folder / ".tokenizer")
            (work.folder / ".tokenizer").rename(work.folder / "tokenizer")
        plan = Plan.of(work, files, evaluation, segmenter, config)
        try:
            executor.run(work, plan.steps)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"what is done is kept in {folder}: the same command goes on") from None
        if unread := unread_evaluation(work):
            print(f"evaluation files: {len(unread):,} left out, the first: {unread[0]}", file=sys.stderr)
        if rejects is not None:
            with Progress("rejects", "parts", len(work.finished(PARTS))) as progress:
                write_rejects(work, plan.dropping, rejects, progress.advance)
        described |= {"build": name, "tokenizer_kind": spoken.KIND, "vocab_size": spoken.vocab_size}
        result = publish(work, plan.assembling, described, output)
        shutil.rmtree(work.folder)
    return result


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
