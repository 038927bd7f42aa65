"""Whether a folder of shards is whole: every byte, block and count against the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.progress import Progress
from data_tools.shards import tar
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import Vocabulary


def verify(folder: Path) -> str:
    """Check a folder; a line that says what was checked. Raises ValueError that names everything wrong."""
    manifest = Manifest.load(folder)
    problems = []
    tokenizer = load_tokenizer(folder / "tokenizer")
    if (tokenizer.fingerprint, tokenizer.KIND) != (manifest.tokenizer, manifest.tokenizer_kind):
        problems.append("tokenizer: not the one the shards were built with")
    samples = 0
    for split, entry in manifest.splits.items():
        for name, expected in entry.index.items():
            path = folder / f"{split}.{name}.npy"
            if not path.is_file() or tar.sha256(path) != expected:
                problems.append(f"{path.name}: missing or changed")
        with Progress(f"verifying {split}", "samples", entry.samples) as progress:
            for shard in entry.shards:
                path = folder / shard.name
                if not path.is_file():
                    problems.append(f"{shard.name}: missing")
                elif tar.sha256(path) != shard.sha256:
                    problems.append(f"{shard.name}: its SHA-256 is not the manifest's")
                else:
                    problems += _content(ShardReader(folder, shard), tokenizer.vocabulary)
                progress.advance(sum(shard.samples))
        samples += entry.samples
    if problems:
        raise ValueError(f"{folder}: {len(problems)} problems: {'; '.join(problems)}; build it again")
    return f"{folder}: whole: {samples:,} samples in {sum(len(e.shards) for e in manifest.splits.values())} shards"


def _content(reader: ShardReader, vocabulary: Vocabulary) -> list[str]:
    """What is wrong inside a shard whose bytes are the manifest's."""
    problems = []
    for block in range(len(reader.shard.samples)):
        data = reader.read(block, 0)
        samples, masks = data.samples, data.masks
        ends = np.cumsum(samples.lengths)
        sound = (
            len(samples) == reader.shard.samples[block]
            and len(samples.ids) == ends[-1]
            and samples.ids.max() < vocabulary.size
            and bool((samples.ids[ends - samples.lengths] == vocabulary.cls).all())
            and bool((samples.ids[ends - 1] == vocabulary.sep).all())
            and len(masks.positions) == masks.counts.sum() == len(masks.inputs)
            and bool((masks.positions < np.repeat(samples.lengths, masks.counts)).all())
        )
        if not sound:
            problems.append(f"{reader.shard.name}, block {block}: its columns contradict each other")
    return problems
