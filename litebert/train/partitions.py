"""Where parameters lie in the flat slices that DeepSpeed hands an optimizer, by ZeRO stage.

Read from DeepSpeed 0.19.8. At stages 1 and 2 a parameter group is one tensor laid flat, of which each rank has a
stretch: a parameter may lie on several ranks, or not on this one. At stage 3 each parameter is cut into as many equal
parts as there are ranks, and a slice holds this rank's parts, of a sub-group. Where the parts are more than there is,
they end in padding, and that is not zeroed: no sum may include it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from litebert.train.lamb import Segment


def slices(engine: Any, stage: int) -> Iterator[Tensor]:
    """What DeepSpeed's optimizer sees as its parameters on this rank; at stage 0 whole ones."""
    if stage == 3:
        yield from engine.optimizer.fp32_partitioned_groups_flat
    else:
        for group in engine.basic_optimizer.param_groups:
            yield from group["params"]


def segments(engine: Any, stage: int, parameters: Iterable[nn.Parameter], rank: int) -> dict[Tensor, list[Segment]]:
    """What lies in each of a rank's slices, at stages 1 to 3, without padding."""
    found: dict[Tensor, list[Segment]] = {slice_: [] for slice_ in slices(engine, stage)}
    if stage == 3:
        for slice_, group in zip(found, engine.optimizer.fp16_groups, strict=True):
            start = 0
            for parameter in group:
                size = parameter.partition_numel()
                filled = min(size, parameter.ds_numel - rank * size)
                if filled > 0:
                    found[slice_].append(Segment(parameter, start, filled))
                start += size
        return found
    for parameter in parameters:
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]  # DeepSpeed hung it there
        if mapping:  # else it lies on other ranks
            (slice_,) = engine.basic_optimizer.param_groups[mapping.param_group_index]["params"]
            address = mapping.get_hp_fragment_address()
            found[slice_].append(Segment(parameter, address.start, address.numel))
    return found
