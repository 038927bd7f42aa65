"""Whether a folder of shards is whole: every byte, block and count against the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.progress import Progress
from data_tools.shards import tar
from data_tools.shards.keys import U64, sample_keys
from data_tools.shards.manifest import Manifest, Shard, SplitEntry
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
        keys = _keys(folder, split, entry)
        with Progress(f"verifying {split}", "samples", entry.samples) as progress:
            for shard in entry.shards:
                own, keys = np.split(keys, [sum(shard.samples)])
                path = folder / shard.name
                if not path.is_file():
                    problems.append(f"{shard.name}: missing")
                elif tar.sha256(path) != shard.sha256:
                    problems.append(f"{shard.name}: its SHA-256 is not the manifest's")
                else:
                    problems += _content(folder, shard, tokenizer.vocabulary, own)
                progress.advance(sum(shard.samples))
        samples += entry.samples
    if problems:
        raise ValueError(f"{folder}: {len(problems)} problems: {'; '.join(problems)}; build it again")
    return f"{folder}: whole: {samples:,} samples in {sum(len(e.shards) for e in manifest.splits.values())} shards"


def _keys(folder: Path, split: str, entry: SplitEntry) -> U64:
    """The keys of a split's samples, as its index has them; none where it has not that many, which no block fits."""
    try:
        keys = np.load(folder / f"{split}.keys.npy", allow_pickle=False)
    except (OSError, ValueError):
        return np.empty(0, np.uint64)
    return keys if keys.shape == (entry.samples,) else np.empty(0, np.uint64)


def _content(folder: Path, shard: Shard, vocabulary: Vocabulary, keys: U64) -> list[str]:
    """What is wrong inside a shard whose bytes are the manifest's."""
    problems, reader = [], ShardReader(folder, shard)
    ends_block = np.cumsum(shard.samples)
    for block in range(len(shard.samples)):
        data = reader.read(block, 0)
        samples, masks = data.samples, data.masks
        ends = np.cumsum(samples.lengths)
        sound = (
            len(samples) == shard.samples[block]
            and len(samples.ids) == ends[-1]
            and samples.ids.max() < vocabulary.size
            and bool((samples.ids[ends - samples.lengths] == vocabulary.cls).all())
            and bool((samples.ids[ends - 1] == vocabulary.sep).all())
            and len(masks.positions) == masks.counts.sum() == len(masks.inputs)
            and bool((masks.positions < np.repeat(samples.lengths, masks.counts)).all())
        )
        if not sound:
            problems.append(f"{shard.name}, block {block}: its columns contradict each other")
        own = keys[ends_block[block] - shard.samples[block] : ends_block[block]]
        if not np.array_equal(sample_keys(samples.documents, samples.numbers), own):
            problems.append(f"{shard.name}, block {block}: its samples are not those of the index of keys")
    return problems
