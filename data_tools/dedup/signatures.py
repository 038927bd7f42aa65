"""What is kept of a part's documents to find those that are there twice: 64-bit keys, sorted.

Equal things have equal keys. Among n different ones, n**2 / 2**65 pairs share a key by chance: of a billion documents
0.03 are dropped wrongly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from data_tools.dedup.config import DedupConfig
from data_tools.dedup.minhash import band_keys
from data_tools.dedup.ngrams import units
from data_tools.shards.keyed_rng import U64


def signatures(texts: Sequence[str], config: DedupConfig) -> dict[str, npt.NDArray]:
    """The signatures of the documents of a part that the config asks for.

    Args:
        texts: canonical text, paragraphs apart by line feeds.
        config: what is looked for.

    Returns:
        "exact" and "near" with the rows of documents, "paragraphs" with the rows of paragraphs, each uint64 [2, keys]:
        sorted keys, and the row that each is of, ascending among equal keys; and "paragraph_counts", int64 [documents].
    """
    found: dict[str, npt.NDArray] = {}
    if config.exact:
        found["exact"] = _sorted(_hashes(texts), np.arange(len(texts)))
    if config.near:
        of_texts = units(texts)
        long = of_texts.lengths() >= config.ngram  # of the others there are only exact copies
        keys = band_keys(of_texts.take(long), config.ngram, config.bands, config.rows)
        found["near"] = _sorted(keys.ravel(), np.repeat(np.flatnonzero(long), config.bands))
    if config.paragraphs:
        paragraphs = [paragraph for text in texts for paragraph in text.split("\n")]
        lengths = np.fromiter(map(len, paragraphs), np.int64, len(paragraphs))
        rows = np.flatnonzero(lengths >= config.min_paragraph)
        found["paragraphs"] = _sorted(_hashes([paragraphs[row] for row in rows]), rows)
    if config.paragraphs or config.evaluation.files:
        found["paragraph_counts"] = np.fromiter((text.count("\n") + 1 for text in texts), np.int64, len(texts))
    return found


def _hashes(texts: Sequence[str]) -> U64:
    digests = [hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.uint64)


def _sorted(keys: U64, rows: npt.NDArray) -> U64:
    order = np.argsort(keys, kind="stable")
    return np.stack([keys[order], rows[order].astype(np.uint64)])
