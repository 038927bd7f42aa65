"""Which documents are kept, and why the others are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """What a document must be to be kept.

    Attributes:
        min_characters: characters of canonical text, at least.
        min_chinese: share of Chinese characters among the characters that are not spaces, at least.
    """

    min_characters: int = 10
    min_chinese: float = 0.3

    def __post_init__(self) -> None:
        problems = []
        if self.min_characters < 1:
            problems.append(f"min_characters {self.min_characters} is not positive")
        if not 0 <= self.min_chinese <= 1:
            problems.append(f"min_chinese {self.min_chinese} is not a share")
        if problems:
            raise ValueError("; ".join(problems))


def rejection(codes: npt.NDArray[np.uint32], config: FilterConfig) -> str | None:
    """Why a document is not kept, or None.

    Args:
        codes: code points of its canonical text, uint32 [characters].
    """
    if len(codes) < config.min_characters:
        return "too short"
    chinese = np.count_nonzero(((codes >= 0x3400) & (codes <= 0x9FFF)) | ((codes >= 0x20000) & (codes <= 0x323AF)))
    written = len(codes) - np.count_nonzero(codes <= ord(" "))
    return "not Chinese" if chinese < config.min_chinese * written else None
