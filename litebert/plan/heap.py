"""What the heap of a process that trains on a CPU in bf16 grows by, beside what it holds at once.

oneDNN keeps the 1,024 products that it compiled last, one for each shape, and samples of other lengths make other
shapes in every step. Between blocks of memory that are of another size each time, holes are left. So the peak grows
with what a layer holds and, ever more slowly, with the steps of a run. No arithmetic says by how much: the three
numbers here were fitted to 92 peaks of 15 trainings on two cores: 10 to 4,500 steps, 2 to 12 layers of 64 to 384, 8,000
and 21,128 words. Each training foretold by numbers that were fitted to the others, 90 of the 92 are within 20 %, the
root mean square is 7 % and the worst 26 % too little, six layers of 384 after their first checkpoint. This form was
chosen from nine with all of them in sight, so that others may be foretold less well (docs/results/memory.json has the
peaks).

In fp32 nothing is compiled, and the peak is taken to stay where the first steps leave it.
"""

from __future__ import annotations

import math

from litebert.plan.memory import Amount

KERNELS, KERNEL = 1024, 1.14e6  # bytes of one and all that goes with it; its code is 0.57 to 0.63 MB, of any shape
HOLES = 12  # of the size of what a layer keeps for its backward
STEPS, DOUBLING = 250, 0.11  # where the two above hold, and the share that they grow by when a run is twice as long


def heap(layer: float, steps: int) -> dict[str, Amount]:
    """Bytes at the end of a run.

    Args:
        layer: bytes that one layer keeps of the largest micro-batch.
        steps: of the run.
    """
    growth = 1 + DOUBLING * math.log2(steps / STEPS)
    grown = f"x (1 + {DOUBLING} log2({steps:,} / {STEPS} steps))"
    return {
        "kernels": Amount(KERNELS * KERNEL * growth, f"{KERNELS:,} that oneDNN keeps x {KERNEL / 1e6} MB {grown}"),
        "holes in the heap": Amount(HOLES * layer * growth, f"{HOLES} x {layer / 1e6:,.1f} MB of a layer {grown}"),
    }
