"""Groups of masked tokens: where they come from, how often they occur, how long their words are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from data_tools.shards.blocks import Block
from data_tools.text.interface import TextTokenizer
from data_tools.text.tokenizer import SPACE
from data_tools.text.wordpiece import CONTINUING, WordPiece

I64 = npt.NDArray[np.int64]

_LONGEST = 4  # longer words are together
LENGTHS = (*map(str, range(1, _LONGEST)), f"{_LONGEST} or more", "masked in part")


@dataclasses.dataclass(frozen=True)
class Grouped:
    """The masked tokens of a block, M of them, in its order.

    Attributes:
        labels: int64 [M], what stood there.
        groups: by grouping, int64 [M]: the number of each one's group.
        word: int64 [M], which of the block's words each is of, ascending.
        begins_word: bool [M], whether it is the first masked token of its word.
    """

    labels: I64
    groups: Mapping[str, I64]
    word: I64
    begins_word: npt.NDArray[np.bool_]


class Groups:
    """Four ways to group masked tokens.

    ``source``: of the document. ``frequency``: how often the token occurs in the training text, in powers of ten.
    ``characters``, ``pieces``: the length of its word, as the data's word starts have it, in both units; words that
    are not masked whole are a group of their own. An unknown piece counts as one character.

    Attributes:
        names: of the groups, by grouping.
    """

    def __init__(self, sources: Sequence[str], unigram: I64, tokenizer: TextTokenizer) -> None:
        """``unigram``: how often each id occurs in the training text."""
        edges = 10 ** np.arange(len(str(unigram.max())))
        self._bands = np.digitize(unigram, edges)
        bands = ("0", "1 to 9", *(f"{edge:,} to {10 * edge - 1:,}" for edge in edges[1:].tolist()))
        self._characters = _characters(tokenizer)
        self.names: dict[str, tuple[str, ...]] = {
            "source": tuple(sources),
            "frequency": bands,
            "characters": LENGTHS,
            "pieces": LENGTHS,
        }

    def of(self, block: Block) -> Grouped:
        """The masked tokens of a block."""
        samples, masks = block.samples, block.masks
        begins = np.cumsum(samples.lengths) - samples.lengths
        tokens = np.repeat(begins, masks.counts) + masks.positions
        labels = samples.ids[tokens].astype(np.int64)
        word_of = np.cumsum(samples.words) - 1
        word = word_of[tokens]
        pieces = np.bincount(word_of)
        characters = np.bincount(word_of, weights=self._characters[samples.ids]).astype(np.int64)
        whole = (np.bincount(word, minlength=len(pieces)) == pieces)[word]
        return Grouped(
            labels=labels,
            groups={
                "source": np.repeat(samples.sources, masks.counts).astype(np.int64),
                "frequency": self._bands[labels],
                "characters": np.where(whole, _clipped(characters[word]), _LONGEST),
                "pieces": np.where(whole, _clipped(pieces[word]), _LONGEST),
            },
            word=word,
            begins_word=np.diff(word, prepend=-1) != 0,
        )


def _clipped(lengths: I64) -> I64:
    """Which of LENGTHS."""
    return lengths.clip(1, _LONGEST) - 1


def _characters(tokenizer: TextTokenizer) -> I64:
    """How many characters of text each piece stands for: int64 [vocabulary]."""
    mark = CONTINUING if tokenizer.KIND == WordPiece.KIND else SPACE
    characters = np.array([len(piece.removeprefix(mark)) for piece in tokenizer.pieces], np.int64)
    characters[tokenizer.vocabulary.unk] = 1
    return characters
