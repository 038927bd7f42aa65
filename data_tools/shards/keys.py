"""What tells samples apart: one number for each, which a ledger can add up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(numbers: U64) -> U64:
    """A bijection of uint64 in which every bit of the result depends on every bit given: the finaliser of SplitMix64
    (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators")."""
    numbers = numbers ^ (numbers >> np.uint64(30))
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def sample_keys(documents: U64, numbers: npt.NDArray[np.uint32]) -> U64:
    """The key of each sample, uint64, from the key of its document and its place among the document's samples."""
    return mixed(documents + (numbers.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
