"""Made-up documents of ids, and samples taken apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples
from data_tools.text.interface import Vocabulary

VOCAB = 5000
VOCABULARY = Vocabulary.specials_first(VOCAB)
Flags = npt.NDArray[np.bool_]
Documents = tuple[npt.NDArray[np.int32], I64, Flags, Flags, npt.NDArray[np.uint64], npt.NDArray[np.uint16]]


def documents_of(lengths: npt.ArrayLike, seed: int, sentence: float = 1 / 18, word: float = 0.6) -> Documents:
    """Ids, lengths, sentence and word starts, keys and sources of documents; each token of the corpus has its own id.

    ``sentence`` and ``word`` are the shares of tokens with which one begins.
    """
    lengths = np.asarray(lengths, np.int64)
    rng = np.random.default_rng(seed)
    total = int(lengths.sum())
    sentences, words = rng.random(total) < sentence, rng.random(total) < word
    begins = np.cumsum(lengths) - lengths
    sentences[begins] = words[begins] = True
    words |= sentences
    keys = rng.integers(0, 2**63, len(lengths), dtype=np.uint64)
    return (
        np.arange(5, 5 + total, dtype=np.int32),
        lengths,
        sentences,
        words,
        keys,
        np.arange(len(lengths), dtype=np.uint16),
    )


def made_up_documents(seed: int, documents: int = 300) -> Documents:
    """Documents of all lengths that matter where samples have 64 tokens."""
    lengths = np.random.default_rng(seed).choice([1, 2, 3, 17, 60, 61, 62, 200, 900], documents)
    return documents_of(lengths, seed)


def each(samples: Samples) -> Iterator[tuple[list[int], list[int], list[int], int]]:
    """The samples one by one: ids, A, B, order."""
    end = 0
    for length, first, order in zip(samples.lengths, samples.first, samples.order, strict=True):
        ids = samples.ids[end : end + length].tolist()
        end += length
        yield ids, ids[1 : 1 + first], ids[2 + first : -1], int(order)
