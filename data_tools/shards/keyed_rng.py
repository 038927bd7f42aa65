"""Randomness as a pure function of what it is for, never of when it is asked for.

Every draw is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") of a 64-bit
key and a 128-bit counter. The key is a document's, combined with the seed; the counter says which sample,
which masked copy, which draw. So a draw does not depend on workers, batches or the order of the work.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_ROUNDS = 10
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint32)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: tuple[npt.ArrayLike, ...], key: tuple[npt.ArrayLike, ...]) -> tuple[U32, U32, U32, U32]:
    """Philox4x32-10 over arrays: four uint32 words of counter and two of key, broadcast; four words out."""
    # Words of few values are not spread out over all before they meet others, the key never.
    c0, c1, c2, c3, k0, k1 = (np.asarray(word, np.uint32) for word in (*counter, *key))
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            left = c0 * _MULTIPLIERS[0]  # uint32 * uint64 -> uint64: the full product
            right = c2 * _MULTIPLIERS[1]
            c0, c2 = (right >> _HALF).astype(np.uint32) ^ (c1 ^ k0), (left >> _HALF).astype(np.uint32) ^ (c3 ^ k1)
            c1, c3 = right.astype(np.uint32), left.astype(np.uint32)
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0, c1, c2, c3


def key_of(*parts: object) -> int:
    """A 64-bit key from any printable parts: the first 8 bytes of BLAKE2b over their text."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def draws(key: int, documents: U64, *counter: npt.ArrayLike) -> tuple[U32, U32, U32, U32]:
    """Four uniform uint32 per entry.

    Args:
        key: what the draws are for, ``key_of(seed, purpose)``.
        documents: uint64 document keys, any shape.
        counter: up to four uint32 words that tell the draws of one document apart (sample, copy, token).
    """
    combined = documents ^ np.uint64(key)
    words = (*counter, *(0,) * (4 - len(counter)))
    return philox(words, ((combined & _LOW).astype(np.uint32), (combined >> _HALF).astype(np.uint32)))


def below(draw: U32, bound: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """A uniform uint32 mapped to an integer in [0, bound): multiply and shift, with a bias of at most bound / 2**32."""
    return ((draw.astype(np.uint64) * np.asarray(bound).astype(np.uint64)) >> _HALF).astype(np.int64)


def permutation(key: int, size: int) -> npt.NDArray[np.int64]:
    """A uniform permutation of range(size) that is a pure function of the key."""
    index = np.arange(size, dtype=np.uint64)
    high, low, _, _ = draws(key, np.zeros(1, np.uint64), index & _LOW, index >> _HALF)
    drawn = (high.astype(np.uint64) << _HALF) | low
    # Sorting numbers that carry their index is several times as fast as an argsort; where what is left of the draws
    # does not tell two of them apart, the argsort decides.
    bits = np.uint64(max(size - 1, 1).bit_length())
    packed = np.sort(drawn >> bits << bits | index)
    if (packed[1:] >> bits == packed[:-1] >> bits).any():
        return np.argsort(drawn, kind="stable").astype(np.int64)
    return (packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
