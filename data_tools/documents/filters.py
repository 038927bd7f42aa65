"""Which documents are kept, and why the others are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from data_tools.text.folding import chunks
from data_tools.text.sentences import code_points

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
_Unsigned = TypeVar("_Unsigned", np.uint32, np.uint64)

_GRAM = 8
_COMPARED_GRAMS = 1 << 22  # in memory at a time
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_BOUND_MULTIPLIERS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_CHUNK_CHARACTERS = 1 << 17
_BUCKET_BITS = 18  # twice as many buckets as characters of a chunk


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """What a document must be to be kept.

    Attributes:
        min_characters: characters of canonical text, at least.
        max_characters: characters of canonical text, at most; 0 sets no bound.
        min_chinese: share of Chinese characters among the characters that are not spaces, at least.
        max_kana: Japanese kana, at most, as a share of the Chinese characters.
        max_repeated_lines: share of the characters that stand in lines that were there before, at most.
        max_repeated_grams: share of the runs of 8 characters that were there before, at most.
    """

    min_characters: int = 10
    max_characters: int = 0
    min_chinese: float = 0.3
    max_kana: float = 0.15
    max_repeated_lines: float = 0.3
    max_repeated_grams: float = 0.5

    def __post_init__(self) -> None:
        problems = []
        if self.min_characters < 1:
            problems.append(f"min_characters {self.min_characters} is not positive")
        if self.max_characters and self.max_characters < self.min_characters:
            problems.append(f"max_characters {self.max_characters} is less than min_characters {self.min_characters}")
        for name in ("min_chinese", "max_kana", "max_repeated_lines", "max_repeated_grams"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                problems.append(f"{name} {share} is not a share")
        if problems:
            raise ValueError("; ".join(problems))


def rejections(texts: Sequence[str], config: FilterConfig) -> list[str | None]:
    """Why each document is not kept, or None.

    Args:
        texts: canonical, paragraphs apart by line feeds.
    """
    return [reason for chunk in chunks(texts, _CHUNK_CHARACTERS) for reason in _reasons(chunk, config)]


def _reasons(texts: Sequence[str], config: FilterConfig) -> list[str | None]:
    reasons = [_by_length(len(text), config) for text in texts]
    judged = [number for number, reason in enumerate(reasons) if not reason]
    if not judged:
        return reasons
    codes = code_points("".join([texts[number] for number in judged]))
    lengths = np.array([len(texts[number]) for number in judged])
    begins = np.cumsum(lengths) - lengths
    script = _by_script(codes, begins, lengths, config)
    most = _most_repeated(codes, begins, lengths) if config.max_repeated_grams < 1 else np.zeros(len(judged))
    for number, begin, reason, bound in zip(judged, begins.tolist(), script, most.tolist(), strict=True):
        text = texts[number]
        if reason:
            reasons[number] = reason
        elif config.max_repeated_lines < 1 and repeated_lines(text) > config.max_repeated_lines:
            reasons[number] = "repeated lines"
        elif bound > (limit := config.max_repeated_grams) and repeated_grams(codes[begin : begin + len(text)]) > limit:
            reasons[number] = "repetitive"
    return reasons


def _by_length(length: int, config: FilterConfig) -> str | None:
    if length < config.min_characters:
        return "too short"
    return "too long" if config.max_characters and length > config.max_characters else None


def _by_script(codes: U32, begins: I64, lengths: I64, config: FilterConfig) -> list[str]:
    """Why texts that stand end to end are not kept for what they are written in, or ""."""

    def count(flags: npt.NDArray[np.bool_]) -> I64:
        return np.add.reduceat(flags, begins, dtype=np.int64)

    # Unsigned differences wrap around below the first character: one comparison tells a range.
    chinese = count(codes - 0x3400 <= 0x9FFF - 0x3400) + count(codes - 0x20000 <= 0x323AF - 0x20000)
    written = lengths - count(codes <= ord(" "))
    kana = count(codes - 0x3041 <= 0x30FA - 0x3041)
    wrong = [chinese < config.min_chinese * written, kana > config.max_kana * chinese]
    found: list[str] = np.select(wrong, ["not Chinese", "Japanese"], "").tolist()
    return found


def _most_repeated(codes: U32, begins: I64, lengths: I64) -> npt.NDArray[np.float64]:
    """At most so large is the share of each text's runs of 8 characters that were there before: float64 [texts].

    Where runs that share a bucket fight for it, the winners are all different. That is as good as exact for most texts,
    and takes no sorting.

    Args:
        codes: of the texts end to end, none of them empty.
    """
    if len(codes) > _COMPARED_GRAMS:
        return np.ones(len(lengths))
    hashes = _gram_hashes(codes, np.uint32, _BOUND_MULTIPLIERS, 15)
    buckets = (hashes >> np.uint32(32 - _BUCKET_BITS)).astype(np.int64)
    runs = np.arange(len(buckets), dtype=np.int32)
    holders = np.empty(1 << _BUCKET_BITS, np.int32)
    holders[buckets] = runs
    winners = np.zeros(len(codes), bool)
    winners[: len(runs)] = holders.take(buckets) == runs
    last = (begins + lengths - 1)[:, None] - np.arange(_GRAM - 1)  # what begins there is of two texts
    winners[np.maximum(last, 0)] = False
    counts = np.maximum(lengths - _GRAM + 1, 1)
    return (counts - np.add.reduceat(winners, begins, dtype=np.int64)) / counts


def repeated_lines(text: str) -> float:
    """Share of a text's characters that stand in lines that were there before."""
    lines = text.split("\n")
    different = set(lines)
    if len(different) == len(lines):
        return 0.0
    total = sum(map(len, lines))
    return 1 - sum(map(len, different)) / total if total else 0.0


def repeated_grams(codes: npt.NDArray[np.uint32]) -> float:
    """Share of the runs of 8 characters, by a hash, that were there before; in a giant, of those with every k-th hash.

    Args:
        codes: code points, uint32 [characters].
    """
    count = len(codes) - _GRAM + 1
    if count <= _GRAM:
        return 0.0
    every = np.uint64(-(-count // _COMPARED_GRAMS))
    blocks = []
    for begin in range(0, count, _COMPARED_GRAMS):
        hashes = _gram_hashes(codes[begin : begin + _COMPARED_GRAMS + _GRAM - 1], np.uint64, _MULTIPLIERS, 29)
        blocks.append(hashes if every == 1 else hashes[hashes % every == 0])
    hashes = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    hashes.sort()
    return float(np.count_nonzero(hashes[1:] == hashes[:-1])) / max(len(hashes), 1)


def _gram_hashes(codes: U32, dtype: type[_Unsigned], multipliers: Sequence[int], shift: int) -> npt.NDArray[_Unsigned]:
    """A hash of each run of 8 characters."""
    hashes = codes.astype(dtype)
    span = 1
    for multiplier in multipliers:
        # A run of twice the span is its two halves, told apart by their order.
        hashes = hashes[:-span] * dtype(multiplier) + hashes[span:]
        hashes ^= hashes >> dtype(shift)
        span *= 2
    return hashes
