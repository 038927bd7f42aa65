"""Documents become samples: the clean, canonical text, its sentences, words and ids, and the stretches of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_tools.documents.clean import CleanConfig
from data_tools.documents.document import Document
from data_tools.documents.filters import FilterConfig
from data_tools.documents.selection import cleaned
from data_tools.samples.columns import Samples
from data_tools.samples.pairs import PairConfig, pair
from data_tools.shards.keyed_rng import key_of
from data_tools.text.interface import TextTokenizer
from data_tools.text.sentences import code_points, sentence_starts
from data_tools.text.words import word_starts

SPLITS = ("train", "heldout")


@dataclasses.dataclass
class Prepared:
    """What a batch of documents became.

    Attributes:
        samples: by split.
        documents: kept, by split.
        characters: of the canonical text that was kept, by split.
        rejected: documents by reason.
        rejects: the documents themselves, each with its reason.
    """

    samples: dict[str, Samples] = dataclasses.field(default_factory=dict)
    documents: Counter[str] = dataclasses.field(default_factory=Counter)
    characters: Counter[str] = dataclasses.field(default_factory=Counter)
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)
    rejects: list[tuple[Document, str]] = dataclasses.field(default_factory=list)


def prepare(
    documents: Sequence[Document],
    tokenizer: TextTokenizer,
    cleaning: CleanConfig,
    filters: FilterConfig,
    pairs: PairConfig,
    heldout_share: float,
    seed: int,
) -> Prepared:
    """Clean and filter a batch of documents, split it by document, and make its samples."""
    prepared = Prepared()
    texts: dict[str, list[str]] = {split: [] for split in SPLITS}
    canonical, reasons = cleaned([document.text for document in documents], tokenizer, cleaning, filters)
    for document, text, reason in zip(documents, canonical, reasons, strict=True):
        if reason:
            prepared.rejected[reason] += 1
            prepared.rejects.append((document, reason))
            continue
        split = split_of(text, heldout_share, seed)
        texts[split].append(text)
        prepared.documents[split] += 1
        prepared.characters[split] += len(text)
    prepared.samples = {split: _samples(kept, tokenizer, pairs, seed) for split, kept in texts.items() if kept}
    return prepared


def split_of(text: str, heldout_share: float, seed: int) -> str:
    """The split of a document, by its canonical text: equal documents are never on both sides."""
    return "heldout" if key_of(seed, "split", text) < heldout_share * 2**64 else "train"


def _samples(texts: Sequence[str], tokenizer: TextTokenizer, pairs: PairConfig, seed: int) -> Samples:
    parts: list[str] = []
    keys: list[int] = []
    for text in texts:
        of_text = tokenizer.parts(text.replace("\n", " "))
        parts += of_text
        keys += [key_of(text, number) for number in range(len(of_text))]
    encoded = tokenizer.encode(parts)
    sentences = encoded.begins(sentence_starts(code_points("".join(texts))))
    words = encoded.begins(word_starts(parts))
    written = encoded.lengths > 0  # a part of nothing but accents has no ids
    lengths, documents = encoded.lengths[written], np.array(keys, np.uint64)[written]
    part_begins = np.cumsum(lengths) - lengths
    sentences[part_begins] = words[part_begins] = True
    return pair(encoded.ids, lengths, sentences, words, documents, pairs, tokenizer.vocabulary, seed)
