"""Which tokens of a sample are masked, and what stands there instead (BERT, Devlin et al. 2019; whole words).

A copy of a sample's masks is a pure function of (seed, document, sample, copy): computed while the shards are
built, or years later from their word starts, it is the same.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_tools.samples.columns import I64, Samples, ranges
from data_tools.shards.keyed_rng import U32, below, draws, key_of
from data_tools.text.interface import Vocabulary

_CHOICE, _REPLACEMENT = 0, 1  # what a token's draws are for: the last word of their counter


@dataclasses.dataclass(frozen=True)
class MaskConfig:
    """How samples are masked.

    Attributes:
        strategy: the unit that is masked whole, a word or a token.
        rate: share of a sample's tokens that are masked, special tokens not counted.
        mask_share: of the masked tokens, those that show [MASK].
        random_share: those that show a random token; the rest shows the token itself.
        copies: how many different maskings of each sample are stored; epoch e reads copy e mod copies.
        seed: of the masks alone, for other masks of the same samples; None for the seed of all else.
    """

    strategy: Literal["word", "token"] = "word"
    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1
    copies: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.rate < 1:
            problems.append(f"rate {self.rate} is not within 0 and 1")
        if min(self.mask_share, self.random_share) < 0 or self.mask_share + self.random_share > 1:
            problems.append(f"mask_share {self.mask_share} and random_share {self.random_share} are not shares of one")
        if self.copies < 1:
            problems.append(f"copies {self.copies} is not positive")
        if problems:
            raise ValueError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Masks:
    """One masked copy of samples.

    Attributes:
        positions: int64 [masked], place within its sample, ascending within a sample.
        inputs: int32 [masked], the id that stands there instead.
        counts: int64 [samples], masked tokens of each.
    """

    positions: I64
    inputs: npt.NDArray[np.int32]
    counts: I64

    def take(self, index: I64) -> Masks:
        """The masks of the samples at the indices, in that order."""
        counts = self.counts[index]
        masked = ranges((np.cumsum(self.counts) - self.counts)[index], counts)
        return Masks(self.positions[masked], self.inputs[masked], counts)


def mask(samples: Samples, config: MaskConfig, vocabulary: Vocabulary, seed: int, copy: int) -> Masks:
    """Mask a copy of the samples.

    A sample's budget is its rate of tokens, rounded, at least one. Units are taken in random order, each if it
    still fits. Where not one fits, the first is taken whole.
    """
    key = key_of(seed if config.seed is None else config.seed, "masks")
    tokens = _Tokens.of(samples)
    chosen = _chosen_tokens(tokens, samples, config, key, copy)
    owner, position = tokens.sample[chosen], tokens.position[chosen]
    word = draws(key, samples.documents[owner], samples.numbers[owner], np.uint32(copy), position, _REPLACEMENT)
    inputs = _replacements(samples.ids[chosen], word[0], word[1], config, vocabulary)
    return Masks(position, inputs, np.bincount(owner, minlength=len(samples)))


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """What each token is: its sample, its place there, and whether it may be masked."""

    sample: I64
    position: I64
    maskable: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, samples: Samples) -> _Tokens:
        sample = np.repeat(np.arange(len(samples)), samples.lengths)
        begins = np.cumsum(samples.lengths) - samples.lengths
        position = np.arange(len(sample)) - begins[sample]
        maskable = np.ones(len(sample), bool)
        for special in (begins, begins + samples.first + 1, begins + samples.lengths - 1):
            maskable[special] = False
        return cls(sample, position, maskable)


def _chosen_tokens(tokens: _Tokens, samples: Samples, config: MaskConfig, key: int, copy: int) -> I64:
    """Indices of the tokens to mask, ascending."""
    begins_unit = samples.words if config.strategy == "word" else np.ones_like(samples.words)
    candidates = np.flatnonzero(tokens.maskable)
    unit_of_candidate = np.cumsum(begins_unit[candidates]) - 1
    heads = candidates[begins_unit[candidates]]
    sizes = np.bincount(unit_of_candidate, minlength=len(heads))
    owner = tokens.sample[heads]
    draw = draws(
        key,
        samples.documents[owner],
        samples.numbers[owner],
        np.uint32(copy),
        tokens.position[heads],
        _CHOICE,
    )
    order = np.argsort((owner.astype(np.uint64) << np.uint64(32)) | draw[0], kind="stable")
    per_sample = np.bincount(tokens.sample[candidates], minlength=len(samples))
    budgets = np.where(per_sample > 0, np.maximum(1, np.floor(config.rate * per_sample + 0.5).astype(np.int64)), 0)
    taken = np.zeros(len(heads), bool)
    taken[order] = _take_what_fits(owner[order], sizes[order], budgets)
    return candidates[taken[unit_of_candidate]]


def _take_what_fits(owner: I64, sizes: I64, budgets: I64) -> npt.NDArray[np.bool_]:
    """Which units are taken, going through each sample's units in order and taking what its budget still holds.

    Each pass finds, for all samples at once, the first unit that does not fit; nothing later and larger than
    what was left there can fit either, so the largest size left falls with each pass.
    """
    alive = np.ones(len(owner), bool)
    first_unit = np.searchsorted(owner, np.arange(len(budgets)))
    while True:
        total = np.cumsum(np.where(alive, sizes, 0))
        before = np.concatenate(([0], total))[first_unit]
        used = total - before[owner]
        over = alive & (used > budgets[owner])
        if not over.any():
            break
        offender = np.flatnonzero(over)
        samples, where = np.unique(owner[offender], return_index=True)
        offender = offender[where]
        left = np.full(len(budgets), np.iinfo(np.int64).max)
        left[samples] = budgets[samples] - (used[offender] - sizes[offender])
        from_here = np.full(len(budgets), len(owner))
        from_here[samples] = offender
        alive &= (np.arange(len(owner)) < from_here[owner]) | (sizes <= left[owner])
    nothing = np.bincount(owner[alive], minlength=len(budgets)) == 0
    alive[first_unit[nothing & (budgets > 0)]] = True
    return alive


def _replacements(
    ids: npt.NDArray[np.int32], kind: U32, which: U32, config: MaskConfig, vocabulary: Vocabulary
) -> npt.NDArray[np.int32]:
    masked = kind < np.uint64(round(config.mask_share * 2**32))
    random = ~masked & (kind < np.uint64(round((config.mask_share + config.random_share) * 2**32)))
    drawn = vocabulary.replacements[below(which, len(vocabulary.replacements))]
    return np.where(masked, vocabulary.mask, np.where(random, drawn, ids)).astype(np.int32)
