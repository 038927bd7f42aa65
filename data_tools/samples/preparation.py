"""Documents become samples: their sentences, words and ids, and the stretches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples
from data_tools.samples.pairs import PairConfig, pair
from data_tools.shards.keyed_rng import key_of
from data_tools.text.interface import TextTokenizer
from data_tools.text.pieces import pieces
from data_tools.text.sentences import code_points, sentence_starts
from data_tools.text.words import Segmenter

SPLITS = ("train", "heldout")
_BATCH_CHARACTERS = 1 << 20  # what is in memory as arrays at a time: some 100 bytes a character
_PIECE_CHARACTERS = 1 << 17  # of one document: the pieces of a giant are cut into samples side by side


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A document to make samples of.

    Attributes:
        text: canonical, paragraphs apart by line feeds.
        key: tells its draws from those of all others.
        source: number of its source.
        place: its number in the corpus, or the part of it that is at work.
    """

    text: str
    key: int
    source: int
    place: int


def split_of(text: str, heldout_share: float, seed: int) -> str:
    """The split of a document, by its canonical text: equal documents are never on both sides."""
    return "heldout" if key_of(seed, "split", text) < heldout_share * 2**64 else "train"


def samples_of(
    texts: Sequence[Text], tokenizer: TextTokenizer, segmenter: Segmenter, pairs: PairConfig, seed: int
) -> Iterator[tuple[Samples, I64]]:
    """The samples of documents, and the place of the document of each: a batch of a million characters at a time.

    A document of more than 131072 characters becomes several, cut at ends of paragraphs, so that memory is bounded.
    """
    for batch in _batches(texts):
        samples, places = _batch(batch, tokenizer, segmenter, pairs, seed)
        if len(samples):
            yield samples, places


def _batches(texts: Sequence[Text]) -> Iterator[list[Text]]:
    batch: list[Text] = []
    characters = 0
    for text in texts:
        for number, piece in enumerate(pieces(text.text, _PIECE_CHARACTERS)):
            key = key_of(text.key, number) if number else text.key
            batch.append(Text(piece, key, text.source, text.place))
            characters += len(piece)
            if characters >= _BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
    if batch:
        yield batch


def _batch(
    texts: Sequence[Text], tokenizer: TextTokenizer, segmenter: Segmenter, pairs: PairConfig, seed: int
) -> tuple[Samples, I64]:
    parts: list[str] = []
    keys: list[int] = []
    counts: list[int] = []
    for text in texts:
        of_text = tokenizer.parts(text.text.replace("\n", " "))
        parts += of_text
        keys += [key_of(text.key, number) if number else text.key for number in range(len(of_text))]
        counts.append(len(of_text))
    encoded = tokenizer.encode(parts)
    sentences = encoded.begins(sentence_starts(code_points("".join(text.text for text in texts))))
    words = segmenter.word_starts(parts, encoded)
    written = encoded.lengths > 0  # a part of nothing but accents has no ids
    lengths, documents = encoded.lengths[written], np.array(keys, np.uint64)[written]
    part_begins = np.cumsum(lengths) - lengths
    sentences[part_begins] = words[part_begins] = True
    text_of = np.repeat(np.arange(len(texts)), counts)[written]
    sources = np.array([text.source for text in texts], np.uint16)[text_of]
    places = np.array([text.place for text in texts], np.int64)[text_of]
    samples = pair(encoded.ids, lengths, sentences, words, documents, sources, pairs, tokenizer.vocabulary, seed)
    return samples, places[_index(documents, samples.documents)]


def _index(keys: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> I64:
    """Where each wanted key stands among the keys, which are all different."""
    order = np.argsort(keys)
    return order[np.searchsorted(keys, wanted, sorter=order)]
