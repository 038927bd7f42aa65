"""What the heap of a process that trains on a CPU in bf16 grows by, beside what it holds at once.

oneDNN keeps the 1,024 products that it compiled last, one for each shape, and samples of other lengths make other
shapes in every step. Between blocks of memory that are of another size each time, holes are left. So the peak grows
with what a micro-batch holds and, ever more slowly, with the steps of a run. No arithmetic says by how much: the three
numbers here were fitted to 69 peaks of 13 trainings, of 10 to 4,500 steps, 2 to 12 layers of 64 to 312 and 8,000 or
21,128 words (docs/log.md). Held to each training with the numbers that the others give, the plan is 10 % off in the
root mean square, and 25 % at the most.

In fp32 nothing is compiled, and the peak stays where the first steps leave it.
"""

from __future__ import annotations

import math

from litebert.plan.memory import Amount

KERNELS, KERNEL = 1024, 1.14e6  # bytes of one with what goes with it; its code alone is 0.58 MB, whatever its shape
HOLES = 1.8  # of what a micro-batch holds, its logits included
STEPS, DOUBLING = 250, 0.1  # where the two above hold, and the share that they grow by when a run is twice as long


def heap(held: float, steps: int) -> dict[str, Amount]:
    """Bytes at the end of a run.

    Args:
        held: bytes of the largest micro-batch, activations and logits.
        steps: of the run.
    """
    growth = 1 + DOUBLING * math.log2(steps / STEPS)
    grown = f"x (1 + {DOUBLING} log2({steps:,} / {STEPS} steps))"
    return {
        "kernels": Amount(KERNELS * KERNEL * growth, f"{KERNELS:,} that oneDNN keeps x {KERNEL / 1e6} MB {grown}"),
        "holes in the heap": Amount(HOLES * held * growth, f"{HOLES} x {held / 1e9:,.3f} GB of a micro-batch {grown}"),
    }
