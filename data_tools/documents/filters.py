"""Which documents are kept, and why the others are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

_GRAM = 8
_COMPARED_GRAMS = 1 << 22  # in memory at a time
_MULTIPLIERS = tuple(np.uint64(prime) for prime in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


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


def rejection(text: str, codes: npt.NDArray[np.uint32], config: FilterConfig) -> str | None:
    """Why a document is not kept, or None.

    Args:
        text: its canonical text, paragraphs apart by line feeds.
        codes: the code points of the text, uint32 [characters].
    """
    if len(codes) < config.min_characters:
        return "too short"
    if config.max_characters and len(codes) > config.max_characters:
        return "too long"
    # Unsigned differences wrap around below the first character: one comparison tells a range.
    chinese = np.count_nonzero(codes - 0x3400 <= 0x9FFF - 0x3400)
    if np.any(codes >= 0x20000):
        chinese += np.count_nonzero((codes >= 0x20000) & (codes <= 0x323AF))
    written = len(codes) - np.count_nonzero(codes <= ord(" "))
    if chinese < config.min_chinese * written:
        return "not Chinese"
    if np.count_nonzero(codes - 0x3041 <= 0x30FA - 0x3041) > config.max_kana * chinese:
        return "Japanese"
    if config.max_repeated_lines < 1 and repeated_lines(text) > config.max_repeated_lines:
        return "repeated lines"
    if config.max_repeated_grams < 1 and repeated_grams(codes) > config.max_repeated_grams:
        return "repetitive"
    return None


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
        hashes = _gram_hashes(codes[begin : begin + _COMPARED_GRAMS + _GRAM - 1])
        blocks.append(hashes if every == 1 else hashes[hashes % every == 0])
    hashes = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    hashes.sort()
    return float(np.count_nonzero(hashes[1:] == hashes[:-1])) / max(len(hashes), 1)


def _gram_hashes(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    hashes = codes.astype(np.uint64)
    span = 1
    for multiplier in _MULTIPLIERS:
        # A run of twice the span is its two halves, told apart by their order.
        hashes = hashes[:-span] * multiplier + hashes[span:]
        hashes ^= hashes >> np.uint64(29)
        span *= 2
    return hashes
