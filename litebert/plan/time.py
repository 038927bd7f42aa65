"""How long a step takes."""

from __future__ import annotations

import math

from litebert.model.encoder import ModelConfig
from litebert.plan.devices import Device
from litebert.plan.memory import Amount, activations
from litebert.plan.work import Work, computed_again, operations

KERNELS = 60  # of a layer, forward and backward
AGAIN = 1 / 3  # of a step's traffic and kernels, which a second forward adds
UPDATE_BYTES = 30  # that an update reads and writes for each parameter: gradient, master, two moments, weight


def micro_steps(work: Work, ranks: int, micro_tokens: int, longest: int) -> int:
    """Micro-batches of a rank in a step, as the batch plan cuts them: one ends where the next sample would not fit, and
    two in turn are more than what fits."""
    return math.ceil(work.tokens / ranks / max(micro_tokens - longest, micro_tokens / 2))


def kernels(recompute: bool) -> float:
    """Of a layer in a micro-batch, forward and backward, and perhaps forward again."""
    return KERNELS * (1 + AGAIN * recompute)


def of_step(
    config: ModelConfig,
    work: Work,
    micro: int,
    precision: str,
    device: Device,
    state_share: float,
    recompute: bool = False,
) -> dict[str, Amount]:
    """Seconds of a step of a device that waits for no other.

    Args:
        work: of one rank in the step.
        micro: micro-batches that it is cut into.
        state_share: parameters whose optimizer state the rank holds.
        recompute: whether the backward begins with another forward of each layer.
    """
    again = computed_again(config, work) if recompute else 0.0
    count, rate = sum(operations(config, work).values()) + again, device.rate(precision)
    kept = sum(amount.value for amount in activations(config, work, precision, device.on_cpu).values())
    passes = device.passes * (1 + AGAIN * recompute)
    traffic = device.bandwidth * device.traffic_share
    products = Amount(
        count / (rate * device.matrix_share),
        f"{count / 1e12:,.3f} TFLOP / ({rate / 1e12:,.3f} TFLOP/s x {device.matrix_share:.2f})",
    )
    elementwise = Amount(passes * kept / traffic, f"{passes:.3g} x {kept / 1e9:,.2f} GB / {traffic / 1e9:,.0f} GB/s")
    launched = micro * kernels(recompute) * config.num_layers * device.launch
    times = {"matrix products": products} | ({"elementwise": elementwise} if device.passes else {})
    if launched:
        waited = (
            f"{micro} x {config.num_layers} layers x {kernels(recompute):.0f} kernels x {device.launch * 1e6:,.1f} us"
        )
        times["between kernels"] = Amount(launched, waited)
    times["update"] = Amount(
        UPDATE_BYTES * state_share / traffic, f"{state_share:,.0f} x {UPDATE_BYTES} B / {traffic / 1e9:,.0f} GB/s"
    )
    return times


def forward_and_backward(times: dict[str, Amount], micro: int, recompute: bool) -> tuple[float, float]:
    """Seconds of a micro-batch's two passes, one to two; to three, where the backward begins with another forward."""
    passes = ("matrix products", "elementwise", "between kernels")
    both = sum(times[name].value / micro for name in passes if name in times)
    forward = both / (4 if recompute else 3)
    return forward, both - forward
