"""How long a step takes."""

from __future__ import annotations

import math

from litebert.model.encoder import ModelConfig
from litebert.plan.devices import Device
from litebert.plan.memory import Amount, activations
from litebert.plan.work import Work, operations

KERNELS = 60  # of a layer, forward and backward
UPDATE_BYTES = 30  # that an update reads and writes for each parameter: gradient, master, two moments, weight


def micro_steps(work: Work, ranks: int, micro_tokens: int, longest: int) -> int:
    """Micro-batches of a rank in a step, as the batch plan cuts them: one ends where the next sample would not fit, and
    two in turn are more than what fits."""
    return math.ceil(work.tokens / ranks / max(micro_tokens - longest, micro_tokens / 2))


def of_step(
    config: ModelConfig,
    work: Work,
    micro: int,
    precision: str,
    device: Device,
    state_share: float,
) -> dict[str, Amount]:
    """Seconds of a step of a device that waits for no other.

    Args:
        work: of one rank in the step.
        micro: micro-batches that it is cut into.
        state_share: parameters whose optimizer state the rank holds.
    """
    count, rate = sum(operations(config, work).values()), device.rate(precision)
    kept = sum(amount.value for amount in activations(config, work, precision, device.on_cpu).values())
    traffic = device.bandwidth * device.traffic_share
    products = Amount(
        count / (rate * device.matrix_share),
        f"{count / 1e12:,.3f} TFLOP / ({rate / 1e12:,.3f} TFLOP/s x {device.matrix_share:.2f})",
    )
    elementwise = Amount(
        device.passes * kept / traffic, f"{device.passes:.0f} x {kept / 1e9:,.2f} GB / {traffic / 1e9:,.0f} GB/s"
    )
    launched = micro * KERNELS * config.num_layers * device.launch
    times = {"matrix products": products} | ({"elementwise": elementwise} if device.passes else {})
    if launched:
        waited = f"{micro} x {config.num_layers} layers x {KERNELS} kernels x {device.launch * 1e6:.0f} us"
        times["between kernels"] = Amount(launched, waited)
    times["update"] = Amount(
        UPDATE_BYTES * state_share / traffic, f"{state_share:,.0f} x {UPDATE_BYTES} B / {traffic / 1e9:,.0f} GB/s"
    )
    return times


def backward(times: dict[str, Amount], micro: int) -> float:
    """Seconds of a micro-batch's backward pass, two thirds of its products and of what is between them."""
    passes = ("matrix products", "elementwise", "between kernels")
    return sum(2 / 3 * times[name].value / micro for name in passes if name in times)
