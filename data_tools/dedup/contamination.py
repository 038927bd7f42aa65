"""Evaluation text in a corpus, found by its n-grams."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.dedup.config import DecontaminationConfig
from data_tools.dedup.corpus import Corpus, save
from data_tools.dedup.ngrams import units
from data_tools.documents.document import UNREADABLE, Rejected
from data_tools.documents.files import File
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.shards.keyed_rng import U64
from data_tools.work import Work, load_json, save_json

_BATCH_TEXTS = 10_000
_UNREAD = "unread.json"
_BITS = 4  # of the filter, 2**4 for each n-gram: one in 16 others passes it


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A stage of one item: the n-grams of the evaluation files, 10 bytes of memory for each.

    Attributes:
        config: the fields of their records and the length of an n-gram.
        files: the evaluation files.
        clean: from raw text to canonical text, as the corpus goes through it.
    """

    config: DecontaminationConfig
    files: tuple[File, ...]
    clean: Callable[[str], str]
    name: str = "evaluation"

    def items(self) -> list[str]:
        """The one item."""
        return ["all"]

    def run(self, item: str, folder: Path) -> None:
        """Write the numbers of the n-grams, uint64 ascending, a bit field that tells most others apart, and
        what was left out because it cannot be read."""
        unread: list[str] = []
        found = evaluation_ngrams(self._texts(unread), self.config.ngram)
        if not len(found):
            raise ValueError(
                f"the evaluation files have no text of {self.config.ngram} characters or words: {self.config.files[0]}"
                f"{f' and {len(self.config.files) - 1} more' if self.config.files[1:] else ''}; "
                "choose a smaller --dedup.evaluation.ngram"
            )
        save(folder, {"ngrams": found, "filter": bit_filter(found)})
        save_json(folder / _UNREAD, unread)

    def _texts(self, unread: list[str]) -> Iterator[str]:
        config = ReaderConfig(text_field=self.config.text_field, unreadable="reject", broken_bytes="replace")
        for document in read_documents(self.files, config):
            if not isinstance(document, Rejected):
                # Cleaning may take a short text for the furniture of a page; it must be found nevertheless.
                yield document.text
                yield self.clean(document.text)
            elif document.reason == UNREADABLE:
                said = str(document).replace("--reader.", "--dedup.evaluation.")
                if self.config.unreadable == "stop":
                    raise ValueError(f"{said} (--dedup.evaluation.unreadable reject goes on without it)")
                unread.append(said)


def unread_evaluation(work: Work) -> list[str]:
    """What of the evaluation files was left out because it cannot be read, each with its place and what is wrong."""
    path = work.path(Evaluation.name, "all") / _UNREAD
    return list(load_json(path)) if path.exists() else []


@dataclasses.dataclass(frozen=True)
class Contamination:
    """A stage: what of each part is evaluation text.

    Attributes:
        corpus: the documents.
        config: how much of it makes what evaluation text.
    """

    corpus: Corpus
    config: DecontaminationConfig
    name: str = "contamination"

    def items(self) -> list[str]:
        """The parts."""
        return list(self.corpus.parts)

    def run(self, item: str, folder: Path) -> None:
        """Write which documents are dropped, bool [documents], and which paragraphs are cut, bool [paragraphs]."""
        texts = self.corpus.column(item, "text").to_pylist()
        counts = self.corpus.signature(item, "paragraph_counts")
        dropped, cut = np.zeros(len(texts), bool), np.zeros(int(counts.sum()), bool)
        index = self.corpus.array("evaluation", "all", "ngrams")
        bits = self.corpus.array("evaluation", "all", "filter")
        if self.config.drop == "document":
            dropped = contaminated(texts, index, bits, self.config)
        else:
            cut = contaminated([line for text in texts for line in text.split("\n")], index, bits, self.config)
        save(folder, {"dropped": dropped, "cut": cut})


def evaluation_ngrams(texts: Iterable[str], size: int) -> U64:
    """The different n-grams of texts, uint64 ascending."""
    found = np.zeros(0, np.uint64)
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH_TEXTS:
            found = np.unique(np.concatenate([found, *(hashes for hashes, _ in units(batch).ngrams(size))]))
            batch = []
    return np.unique(np.concatenate([found, *(hashes for hashes, _ in units(batch).ngrams(size))]))


def bit_filter(ngrams: U64) -> npt.NDArray[np.uint8]:
    """A bit field, a power of two long, in which the high bits of every n-gram name a bit that is set."""
    width = max(3, len(ngrams).bit_length() + _BITS)
    places = ngrams >> np.uint64(64 - width)
    bits = np.zeros(1 << (width - 3), np.uint8)
    np.bitwise_or.at(bits, places >> np.uint64(3), np.uint8(1) << (places & np.uint64(7)).astype(np.uint8))
    return bits


def contaminated(
    texts: list[str], index: U64, bits: npt.NDArray[np.uint8], config: DecontaminationConfig
) -> npt.NDArray[np.bool_]:
    """Which texts are evaluation text, bool [texts].

    Args:
        texts: canonical texts.
        index: the n-grams of the evaluation files, ascending.
        bits: their ``bit_filter``.
        config: how many of them make a text one.
    """
    found, total = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    shift = np.uint64(65 - int(len(bits) * 8).bit_length())
    for hashes, owners in units(texts).ngrams(config.ngram):
        high = hashes >> shift
        passed = np.flatnonzero((bits[high >> np.uint64(3)] >> (high & np.uint64(7)).astype(np.uint8)) & 1)
        places = np.searchsorted(index, hashes[passed])
        hits = passed[index[np.minimum(places, len(index) - 1)] == hashes[passed]]
        found += np.bincount(owners[hits], minlength=len(texts))
        total += np.bincount(owners, minlength=len(texts))
    return found >= np.maximum(config.min_ngrams, config.min_share * total)
