"""Whether an exported model computes what the trained one does: every output, on padded inputs of unequal lengths.

Shape suffixes: B = samples, L = tokens of the longest, T = their tokens end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from litebert.model.attention import Packing
from litebert.model.heads import PretrainingModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("logits", "last_hidden_state", "pair_logits")  # the last of models with a pair head
# The outputs of padded inputs, each int64 [B, L] and by its name of INPUTS: [B, L, V], [B, L, H] and perhaps [B, 2].
Answer = Callable[[dict[str, Tensor]], Sequence[Tensor]]

# In units of `_unit`: both precisions round relative to what they round, by up to 2^-24 = 6e-8 and 2^-11 = 5e-4 each
# time, so that a limit means the same for every model. Measured were 4e-7 to 7e-6 and 1e-3 to 6e-3; an overflow, or a
# weight in another's place, is far beyond.
FP32_TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2
_LENGTHS = (31, 16, 9, 2)
_LONGEST = 512  # of what is compared: at Google's vocabulary its logits are 43 MB


class Difference(NamedTuple):
    """The largest of any number in any output; not a number where an output has what is none.

    Attributes:
        relative: in units of its output's `_unit`, which the limits are in.
        absolute: as it is.
    """

    relative: float
    absolute: float


def largest_difference(model: PretrainingModel, answer: Answer) -> Difference:
    """How far answers are from the model's own, on random inputs, as `furthest` says."""
    return furthest(_compared(model, answer))


def furthest(compared: Iterable[tuple[Tensor, Tensor]]) -> Difference:
    """How far outputs are from those of the trained model, given first; of a padded batch, those at real tokens."""
    found = []
    for mine, their in compared:
        absolute = (mine - their.float()).abs().max()
        found.append(torch.stack([absolute / _unit(mine), absolute]))
    return Difference(*torch.stack(found).amax(0).tolist())


def _unit(output: Tensor) -> Tensor:
    """An output's largest number; where that is below 1, ten times as much, but 1 at most.

    The logits of a head that has learnt little are small, the rest of larger numbers that cancel out, and rounded as
    those are: hence the ten times. Zeros in their place are a tenth of a unit away, however small they are.
    """
    largest = output.abs().max()
    return torch.maximum(largest, (10 * largest).clamp(max=1.0)).clamp(min=torch.finfo(output.dtype).tiny)


def _compared(model: PretrainingModel, answer: Answer) -> Iterator[tuple[Tensor, Tensor]]:
    config = model.config
    for inputs in random_inputs(config.vocab_size, config.token_types, config.max_positions):
        ids_BL, mask_BL, types_BL = (inputs[name] for name in INPUTS)
        valid_BL = mask_BL.bool()
        packing = Packing.of(mask_BL.sum(1).tolist())
        with torch.inference_mode():
            hidden_TH, logits_TV, pair_B2 = model(
                ids_BL[valid_BL], types_BL[valid_BL], packing, torch.arange(packing.tokens)
            )
            theirs = answer(inputs)
        yield from ((logits_TV, theirs[0][valid_BL]), (hidden_TH, theirs[1][valid_BL]))
        if pair_B2 is not None:
            yield pair_B2, theirs[2]


def random_inputs(vocab_size: int, token_types: int, positions: int) -> Iterator[dict[str, Tensor]]:
    """Inputs by their names of INPUTS, int64 [B, L]: a padded batch, and one sample, as long as positions allow."""
    generator = torch.Generator().manual_seed(0)
    for lengths in (_LENGTHS, (_LONGEST,)):
        length_B = torch.tensor(lengths).clamp(max=positions)
        mask_BL = torch.arange(int(length_B.max())) < length_B[:, None]
        ids_BL = torch.randint(vocab_size, mask_BL.shape, generator=generator) * mask_BL
        types_BL = torch.randint(max(1, token_types), mask_BL.shape, generator=generator) * mask_BL
        yield dict(zip(INPUTS, (ids_BL, mask_BL.long(), types_BL), strict=True))


def proven(difference: Difference, half: bool = False) -> str:
    """Says what the largest difference is. ValueError where it is too large."""
    limit = HALF_TOLERANCE if half else FP32_TOLERANCE
    if not difference.relative <= limit:
        raise ValueError(
            f"the exported model's outputs differ from the trained one's by {difference.relative:.2g} of their largest "
            f"number (> {limit:g}), {difference.absolute:.2g} absolute: nothing is written"
            + "; export it without --half"
            * half
        )
    return (
        f"outputs within {difference.relative:.1e} of the trained model's, in units of the largest number "
        f"({difference.absolute:.1e} absolute)"
    )
