"""What a run trains on: the same split of one or more folders of shards."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_tools.shards.cache import Cache
from litebert.data.split import Split, log_probabilities


class Corpus:
    """One or more splits with one tokenizer. Samples are numbered through, folder after folder.

    Attributes:
        splits: in the order they were given.
        locations: of their folders, paths made absolute.
        fingerprint: of all folders and their order; that of the folder where there is one.
        tokenizer_fingerprint, vocab_size: which they share.
        pairs: what their pairs are for: ``sop``, ``nsp`` or ``none``.
        seq_length: tokens of a sample, at most.
        samples, tokens: of all together.
        sample_begins: int64 [splits], the number of each split's first sample.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        """Raises ValueError where the splits were made with more than one tokenizer, or for different pairs."""
        first, *others = self.splits = tuple(splits)
        for other in others:
            if other.tokenizer_fingerprint != first.tokenizer_fingerprint:
                raise ValueError(
                    f"{other.location} was made with another tokenizer than {first.location}: build them with one"
                )
            if other.pairs != first.pairs:
                raise ValueError(
                    f"{other.location} has pairs for {other.pairs}, {first.location} for {first.pairs}: build them with"
                    " one pairs.objective"
                )
        self.locations = [s.location if "://" in s.location else str(Path(s.location).absolute()) for s in self.splits]
        fingerprints = [split.fingerprint for split in self.splits]
        together = hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()
        self.fingerprint = together if others else first.fingerprint
        self.tokenizer_fingerprint, self.vocab_size = first.tokenizer_fingerprint, first.vocab_size
        self.pairs = first.pairs
        self.seq_length = max(split.seq_length for split in self.splits)
        self.samples = sum(split.samples for split in self.splits)
        self.tokens = sum(split.tokens for split in self.splits)
        self.sample_begins = np.cumsum([0, *(split.samples for split in self.splits)])[:-1]

    @classmethod
    def opened(cls, locations: Sequence[str | Path], name: str, cache: Cache | None = None) -> Corpus:
        """A split of folders at paths or URLs. Raises ValueError where they cannot be opened together."""
        return cls([Split(location, name, cache) for location in locations])

    @property
    def waited(self) -> float:
        """Seconds of all splits together, as ``Split`` has them; a loader reads one after the other."""
        return sum(split.waited for split in self.splits)

    @functools.cached_property
    def unigram_log_probabilities(self) -> npt.NDArray[np.float64]:
        """Log of each id's share of the text, with one added to every count: float64 [vocab_size]."""
        return log_probabilities(sum((np.asarray(split.unigram) for split in self.splits), np.zeros((), np.int64)))
