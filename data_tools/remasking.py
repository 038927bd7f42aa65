"""New masks for shards that are there: of another kind, another rate, another seed, or more copies.

A masked copy is a function of the samples and the mask config, so the result is, byte for byte, the folder that a build
of the same corpus with that config makes; but no text is read, and no word or token is found anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.executors.local import LocalExecutor
from data_tools.publication import join_columns
from data_tools.samples.columns import concatenate
from data_tools.samples.masks import MaskConfig
from data_tools.shards import manifest, tar
from data_tools.shards.assembly import ShardConfig, assemble
from data_tools.shards.manifest import Manifest, Shard, SplitEntry
from data_tools.shards.reader import ShardReader
from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import Vocabulary
from data_tools.work import Work, code_fingerprint, locked, put_in_place, remove_stale, synchronize, work_folder

_ENTRY, _COUNTS, _OUTPUT = "shard.json", "counts.npy", "output"


@dataclasses.dataclass(frozen=True)
class Remasking:
    """An item is a shard. It leaves the tar with its new masks, their counts, and its manifest entry.

    Attributes:
        source: folder of the shards that are there.
        found: their manifest.
        vocabulary: of their tokenizer.
        masks: the new masks.
    """

    source: Path
    found: Manifest
    vocabulary: Vocabulary
    masks: MaskConfig
    name: str = "remasking"

    def items(self) -> list[str]:
        """The names of the shards."""
        return [item for split in self.found.splits for item in self.of_split(split)]

    def of_split(self, split: str) -> list[str]:
        """The names of a split's shards, in order."""
        return [Path(shard.name).stem for shard in self.found.splits[split].shards]

    def run(self, item: str, folder: Path) -> None:
        """Write a shard anew. Raises ValueError where the one that is there is damaged."""
        split, _, number = item.rpartition("-")
        shard = next(one for one in self.found.splits[split].shards if one.name == f"{item}.tar")
        reader = ShardReader(self.source, shard)
        samples = concatenate([reader.read(block, 0).samples for block in range(len(shard.samples))])
        config, seed = ShardConfig(**self.found.config["shards"]), self.found.config["seed"]
        corpus = np.load(self.source / "train.unigram.npy", allow_pickle=False)
        path = folder / shard.name
        made = assemble(path, samples, int(number), self.masks, config, self.vocabulary, seed, corpus)
        np.save(folder / _COUNTS, made.columns["counts"], allow_pickle=False)
        (folder / _ENTRY).write_text(json.dumps(dataclasses.asdict(made.shard)), encoding="utf-8")


def remask(source: Path, output: Path, changes: dict[str, Any], workers: int = 1) -> Manifest:
    """Make a new folder of shards with other masks, or find it there already made.

    One that ended before it was done goes on where it was.

    Args:
        changes: to the mask config that the shards have, by the name of the attribute.
        workers: processes.

    Raises ValueError where that gives no config, the shards are damaged, or the output holds anything else.
    """
    executor = LocalExecutor(workers)
    found = Manifest.load(source)
    masks = MaskConfig(**{**found.config["masks"], **changes})
    config = {**found.config, "masks": dataclasses.asdict(masks)}
    build = manifest.build_fingerprint(found.inputs, found.tokenizer, found.segmenter, config)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        return manifest.already_built(output, build)
    tokenizer = load_tokenizer(source / "tokenizer")
    if tokenizer.fingerprint != found.tokenizer:
        raise ValueError(f"{source / 'tokenizer'}: not the one the shards were built with; build the shards again")
    described = dataclasses.replace(found, build=build, config=config)
    folder = work_folder(output, manifest.fingerprint({"of": described.fingerprint, "code": code_fingerprint()}))
    remove_stale(output, but=folder)
    with locked(folder) as work:
        stage = Remasking(source, found, tokenizer.vocabulary, masks)
        executor.run(work, ((stage,),))
        result = _publish(work, stage, described, output)
        shutil.rmtree(work.folder)
    return result


def _publish(work: Work, stage: Remasking, described: Manifest, output: Path) -> Manifest:
    """The tars, the counts of masks and the manifest are new; the rest is as it was."""
    folder = work.folder / _OUTPUT
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(stage.source / "tokenizer", folder / "tokenizer")
    splits = {split: _split(work, stage, split, entry, folder) for split, entry in described.splits.items()}
    result = dataclasses.replace(described, splits=splits)
    result.save(folder)
    for path in (*folder.rglob("*"), folder):
        synchronize(path)
    put_in_place(folder, output)
    return result


def _split(work: Work, stage: Remasking, split: str, entry: SplitEntry, folder: Path) -> SplitEntry:
    parts = [work.path(stage.name, item) for item in stage.of_split(split)]
    shards = [Shard(**json.loads((part / _ENTRY).read_text(encoding="utf-8"))) for part in parts]
    for part, shard in zip(parts, shards, strict=True):
        os.link(part / shard.name, folder / shard.name)  # not moved: killed within, this can be done again
    path = folder / f"{split}.{_COUNTS}"
    join_columns(path, [part / _COUNTS for part in parts], entry.samples)
    masked = sum(np.load(part / _COUNTS, allow_pickle=False).sum(axis=1, dtype=np.int64) for part in parts)
    index = {**entry.index, "counts": tar.sha256(path)}
    for name in index.keys() - {"counts"}:
        shutil.copyfile(stage.source / f"{split}.{name}.npy", folder / f"{split}.{name}.npy")
        if tar.sha256(folder / f"{split}.{name}.npy") != index[name]:
            raise ValueError(f"{stage.source / f'{split}.{name}.npy'}: damaged; build the shards again")
    return dataclasses.replace(entry, shards=shards, masked=np.asarray(masked).tolist(), index=index)
