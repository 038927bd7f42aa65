"""Train a SentencePiece tokenizer on a fair sample of documents, in bounded memory."""

from __future__ import annotations

import dataclasses
import heapq
import io
import math
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_proto

from data_tools.documents.mixture import MixConfig
from data_tools.shards.keyed_rng import key_of
from data_tools.text.normalization import canonical_paragraphs, rules
from data_tools.text.sentences import code_points, sentence_starts
from data_tools.text.tokenizer import LOWEST_SCORE, SCORE_QUANTUM, SPECIAL_TOKENS

# The E-step's sums depend on how many threads share them: a fixed number gives the same model on any machine.
_THREADS = 16
# SentencePiece starts from a million candidates. On 11 MB of news and reviews, a dozen for each piece wanted took
# half the time and came to a likelihood no worse.
_SEEDS_PER_PIECE = 12


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """How a tokenizer is trained.

    Attributes:
        vocab_size: number of pieces, special tokens included.
        character_coverage: share of the text's characters that become pieces; the rest is unknown.
        sample_characters: characters of text to train on; documents are drawn until it is reached.
        seed: which documents are drawn.
    """

    vocab_size: int = 8000
    character_coverage: float = 0.9995
    sample_characters: int = 20_000_000
    seed: int = 1

    def __post_init__(self) -> None:
        problems = []
        if self.vocab_size < 2 * len(SPECIAL_TOKENS):
            problems.append(f"vocab_size {self.vocab_size} is too small to hold any text")
        if not 0.9 <= self.character_coverage <= 1:
            problems.append(f"character_coverage {self.character_coverage} is not within 0.9 and 1")
        if self.sample_characters < 1:
            problems.append(f"sample_characters {self.sample_characters} is not positive")
        if problems:
            raise ValueError("; ".join(problems))


def train(texts: Iterable[str], config: TokenizerConfig) -> bytes:
    """A SentencePiece unigram model, serialized, with litebert's special tokens and quantised scores.

    Args:
        texts: to train on, all of them (``fair_sample`` bounds them).

    Raises ValueError where the text is too little for the vocabulary, or its characters too many.
    """
    sentences = list(_sentences(texts))
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rules.tsv"
        table.write_text(_rule_table(), encoding="ascii")
        return _quantised(_trained(sentences, config, table))


def _trained(sentences: list[str], config: TokenizerConfig, table: Path) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="unigram",
            vocab_size=config.vocab_size,
            seed_sentencepiece_size=_SEEDS_PER_PIECE * config.vocab_size,
            character_coverage=config.character_coverage,
            pad_id=0, unk_id=1, bos_id=2, eos_id=3,
            pad_piece=SPECIAL_TOKENS[0], unk_piece=SPECIAL_TOKENS[1],
            bos_piece=SPECIAL_TOKENS[2], eos_piece=SPECIAL_TOKENS[3],
            control_symbols=[SPECIAL_TOKENS[4]],
            add_dummy_prefix=False,  # Chinese has no space before a word
            remove_extra_whitespaces=False,  # canonical text has none, and a slice may begin with one
            normalization_rule_tsv=str(table),
            max_sentence_length=1 << 20,
            num_threads=_THREADS,
            minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        raise ValueError(_explanation(str(error), config)) from error
    return model.getvalue()


def _explanation(error: str, config: TokenizerConfig) -> str:
    if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", error):
        return (
            f"{config.vocab_size} pieces are too few for the text, whose characters alone need {needed[1]}:"
            " raise --vocab-size, or lower --character-coverage"
        )
    reason = error.rsplit("] ", 1)[-1].strip() or error
    return f"the text is too little for {config.vocab_size} pieces ({reason}): give more text or a smaller --vocab-size"


def fair_sample(documents: Iterable[tuple[str, str]], config: TokenizerConfig, mix: MixConfig) -> list[str]:
    """Texts drawn without replacement, each with a chance in proportion to its source's weight, in one pass.

    Documents have random times, exponential with their weight as the rate, and the earliest whose characters fit are
    drawn (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir", whose key u^(1/w) is exp(-time)).
    A time hangs on the text alone, so the order of the documents does not matter. No more than
    ``sample_characters`` and one document are ever in memory.

    Args:
        documents: (source, text) of each.

    Raises ValueError that names a weighted source without a document.
    """
    kept: list[tuple[float, int, str]] = []
    characters, latest = 0, math.inf
    absent = set(mix.weights)
    for number, (source, text) in enumerate(documents):
        absent.discard(source)
        weight = mix.weights.get(source, 1.0)
        uniform = (key_of(config.seed, "tokenizer", text) + 0.5) / 2**64
        time = -math.log1p(-uniform) / weight if weight else math.inf
        if time >= latest:
            continue
        heapq.heappush(kept, (-time, -number, text))
        characters += len(text)
        while characters > config.sample_characters and len(kept) > 1:
            popped, _, latest_text = heapq.heappop(kept)
            latest, characters = -popped, characters - len(latest_text)
    if absent:
        raise ValueError(f"mix.weights: no document of the source {' or '.join(map(repr, sorted(absent)))}")
    return [text for _, _, text in sorted(kept, key=lambda entry: -entry[1])]


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Canonical sentences: pieces are learned within one, so that none joins two."""
    for text in texts:
        paragraphs = canonical_paragraphs(text)
        starts = np.flatnonzero(sentence_starts(code_points(paragraphs)))
        for begin, end in zip(starts, [*starts[1:], len(paragraphs)], strict=True):
            yield paragraphs[begin:end].replace("\n", " ")


def _rule_table() -> str:
    """The canonical table in SentencePiece's format, so that the model folds raw text by itself."""
    return "".join(
        f"{ord(character):X}\t{' '.join(f'{ord(target):X}' for target in folded)}\n"
        for character, folded in rules().items()
        if character != "\0" and unicodedata.category(character) != "Cs"  # neither can stand in its UTF-8 table
    )


def _quantised(model: bytes) -> bytes:
    """The model with its scores rounded to quanta, and without the name of a temporary file."""
    proto = model_proto.ModelProto()
    proto.ParseFromString(model)
    for piece in proto.pieces[len(SPECIAL_TOKENS) :]:
        piece.score = max(LOWEST_SCORE, round(piece.score / SCORE_QUANTUM) * SCORE_QUANTUM)
    proto.normalizer_spec.normalization_rule_tsv = ""
    return proto.SerializeToString(deterministic=True)
