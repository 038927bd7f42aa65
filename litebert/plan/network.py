"""What a rank sends in a step, by ZeRO stage."""

from __future__ import annotations

from litebert.plan.memory import ACCUMULATED, Amount, width_of


def sent(parameters: int, stage: int, precision: str, ranks: int, micro_steps: int) -> dict[str, Amount]:
    """Bytes that a rank sends in a step, with rings, where a collective of n bytes sends n (ranks - 1) / ranks.

    An all-reduce is two of them. Stages 0 and 1 reduce the gradients of a step once, in bf16 those accumulated in fp32;
    stages 2 and 3 those of each micro-batch, in the type of the weights. Stages 1 and 2 then gather the new weights,
    stage 3 gathers them twice for each micro-batch.
    """
    width = width_of(precision)
    accumulated = ACCUMULATED if precision == "bf16" else width
    gradients = (2, accumulated, 1) if stage <= 1 else (1, width, micro_steps)
    weights = {0: (0, width, 0), 1: (1, width, 1), 2: (1, width, 1), 3: (2, width, micro_steps)}[stage]
    ring = (ranks - 1) / ranks
    return {
        name: Amount(
            ring * times * size * parameters * rounds,
            f"{times} x {parameters:,} x {size} B x {ranks - 1}/{ranks} ranks x {rounds} a step",
        )
        for name, (times, size, rounds) in {"gradients": gradients, "weights": weights}.items()
        if times and ranks > 1
    }
