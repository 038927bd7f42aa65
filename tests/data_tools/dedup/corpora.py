"""Small corpora with copies in them, and what must become of them, said in plain loops."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_tools.dedup.config import DedupConfig
from data_tools.dedup.corpus import Corpus, save
from data_tools.dedup.signatures import signatures
from data_tools.dedup.stages import dedup_stages
from data_tools.dedup.verdict import Deduplicated
from data_tools.documents.document import Document
from data_tools.documents.files import find_files
from data_tools.documents.parts import KeptPart
from data_tools.work import Work

MASK = 2**64 - 1


def shared(name: str) -> Path:
    """A file of the shared folder beside the project, wherever the worktree lies."""
    path = Path("shared") / name
    return next((found for folder in Path(__file__).parents if (found := folder / path).exists()), path)


def canonical(text: str) -> str:
    """What the made-up evaluation files go through."""
    return text.strip()


def run(work: Work, texts: Sequence[str], per_part: int, config: DedupConfig) -> list[KeptPart]:
    """All stages over texts in parts of so many; what each part becomes. A text's id is its number."""
    work.folder.mkdir(exist_ok=True)
    for number, begin in enumerate(range(0, len(texts), per_part)):
        some = texts[begin : begin + per_part]
        places = range(begin, begin + len(some))
        with work.publishing("cleaning", f"{number:05d}") as folder:
            KeptPart(places, [Document(str(p), "test", text) for p, text in zip(places, some, strict=True)], []).save(
                folder
            )
            save(folder, signatures(some, config))
    corpus = Corpus(work, "cleaning")
    files = find_files(config.evaluation.files) if config.evaluation.files else []
    for stage in dedup_stages(corpus, config, canonical, files):
        for item in reversed(stage.items()):  # the order of the work must not matter
            work.finish(stage, item)
    return [Deduplicated(corpus, config).load(part) for part in corpus.parts]


def outcome(parts: Sequence[KeptPart]) -> dict[int, tuple[str, ...]]:
    """By number of a text: its text if it is kept, else why it is not and what it repeats. None is lost or doubled."""
    found: dict[int, tuple[str, ...]] = {}
    for part in parts:
        for place, document in zip(part.places, part.documents, strict=True):
            assert place not in found
            found[place] = (document.text,)
        for one in part.dropped:
            assert one.place not in found
            found[one.place] = (one.reason, one.detail)
    return dict(sorted(found.items()))


def words_and_characters(text: str) -> list[str]:
    """The units of an n-gram, by a regular expression."""
    return re.findall(r"(?:(?=[^\W_])[\x00-\u2e7f])+|[^\W_]|[\U00010000-\U0010ffff]", text)


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    """The different n-grams of a text."""
    units = words_and_characters(text)
    return set(itertools.pairwise(units)) if size == 2 else set(zip(*(units[n:] for n in range(size)), strict=False))


def jaccard(left: set, right: set) -> float:
    return len(left & right) / len(left | right) if left | right else 0.0


def mixed(value: int) -> int:
    """MurmurHash3's finalizer."""
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & MASK
    return value ^ value >> 33


def sketch(hashes: set[int], size: int) -> list[tuple[int, int]]:
    """Fast similarity sketching as the paper has it: (round, hash) of each place, n-gram by n-gram."""
    places: dict[int, tuple[int, int]] = {}
    for number in range(2 * size):
        if len(places) == size:
            break
        for hashed in hashes:
            value = mixed(hashed ^ (number * 0x9E3779B97F4A7C15 & MASK)) if number else hashed
            place = (value >> 40) * size >> 24 if number < size else number - size
            places[place] = min(places.get(place, (number, MASK)), (number, value & 2**52 - 1))
    return [places[place] for place in range(size)]


def edited(text: str, rng: np.random.Generator, share: float) -> str:
    """A text with a share of its characters changed."""
    characters = list(text)
    for place in np.flatnonzero(rng.random(len(text)) < share):
        characters[place] = chr(int(rng.integers(0x4E00, 0x9FA5)))
    return "".join(characters)


def random_text(rng: np.random.Generator, length: int) -> str:
    """Chinese characters, marks and words, in paragraphs."""
    pieces = [*map(chr, range(0x4E00, 0x4F00)), "，", "。", " hello ", "BERT", "2024", "\n", "𠮷"]
    return "".join(pieces[n] for n in rng.integers(len(pieces), size=length)).strip() or "空"
