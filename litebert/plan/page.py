"""A plan as a page of text, with its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable

from litebert.data.corpus import Corpus
from litebert.model.encoder import ModelConfig
from litebert.plan import disk, streams
from litebert.plan.estimate import FILLED, Estimate, Job, total
from litebert.plan.failures import NODE_MTBF, Failures
from litebert.plan.memory import Amount
from litebert.plan.network import Cluster
from litebert.plan.work import computed_again, operations, parameters
from litebert.recipe import Recipe


def page(
    recipe: Recipe,
    job: Job,
    cluster: Cluster,
    corpus: Corpus | None,
    own: Estimate,
    settings: Iterable[Estimate],
    chosen: Estimate | None,
    teacher: ModelConfig | None,
    node_mtbf: float = NODE_MTBF,
) -> str:
    """All figures of a recipe on a cluster, section by section.

    Args:
        teacher: that the model would learn from, or None.
        node_mtbf: seconds between two failures of a node.
        own: the recipe's setting.
        settings: the ones that were compared.
        chosen: the best of them, or None where none fits.
    """
    counts, work = parameters(job.model), job.work
    steps, ended = recipe.train.steps, ""
    if 0 < recipe.schedule.hours * 3600 < steps * own.seconds:
        steps, ended = int(recipe.schedule.hours * 3600 / own.seconds), ", which schedule.hours ends"
    parts = {name: Amount(count, "") for name, count in operations(job.model, work).items()}
    hours = steps * own.seconds / 3600
    rate = work.tokens / own.seconds
    used = total(parts) / own.seconds / cluster.ranks / cluster.device.rate(job.precision)
    if job.recompute:  # which is no use of the device: more work for the same end
        parts["layers, computed again"] = Amount(computed_again(job.model, work), "")
    kept = {"checkpoints": disk.checkpoints(sum(counts.values()), recipe.train)}
    masked = float(corpus.samples) * work.masked / work.samples if corpus else work.masked * steps
    tokens = float(corpus.tokens) if corpus else work.tokens * steps
    kept |= {"shards, at one epoch": disk.shards(tokens)}
    targets = disk.soft_targets(teacher or job.model, masked)
    lines = [
        f"step      {work.samples:,.0f} samples = {work.tokens:,.0f} tokens, {work.masked:,.0f} of them masked,"
        f" {'counted in the shards' if corpus else 'all samples full'}",
        *_table("parameters", {name: Amount(count, "") for name, count in counts.items()}, 1e6, "M", whole=True),
        *_table("operations of a step, forward and backward: 3 x 2abc for each product", parts, 1e12, "TFLOP"),
        *_table(
            f"memory of each of {cluster.ranks} ranks at ZeRO {own.stage}, {own.micro_tokens:,} tokens at once,"
            f" of {cluster.device.memory / 1e9:,.0f} GB",
            own.memory,
            1e9,
            "GB",
        ),
        *_table("sent by each rank in a step", own.network, 1e9, "GB"),
        *_table(f"time of a step, {own.micro_steps} micro-batches", own.time, 1e-3, "ms"),
        *_hidden(own),
        f"speed     {work.tokens:,.0f} tokens / {own.seconds:,.3f} s = {rate:,.0f} tokens/s,"
        f" {used:.0%} of {cluster.device.rate(job.precision) / 1e12:,.3f} TFLOP/s",
        f"run       {steps:,} steps x {own.seconds:,.3f} s = {hours:,.2f} hours{ended}"
        f" x {cluster.ranks} devices = {hours * cluster.ranks:,.2f} device-hours",
        *_table("disk", kept, 1e9, "GB"),
        *_table(
            f"disk for soft targets of {'the' if teacher else 'this model as a'} teacher, each codec by itself",
            targets,
            1e9,
            "GB",
            summed=False,
        ),
        *_streams(job, cluster, own, teacher),
        *_failures(
            Failures.of_run(cluster.nodes, sum(counts.values()) * disk.KEPT, node_mtbf),
            own,
            steps,
            recipe.train.checkpoint_every,
        ),
        "settings  ZeRO  micro_tokens  memory GB  sent GB  step ms",
    ]
    for each in settings:
        fits = "" if each.bytes <= FILLED * cluster.device.memory else "  does not fit"
        lines.append(
            f"{each.stage:>14}{each.micro_tokens:>14,}{each.bytes / 1e9:>11.2f}{total(each.network) / 1e9:>9.3f}"
            f"{each.seconds * 1e3:>9,.1f}{fits}"
        )
    if chosen is None:
        instead = "more devices" if job.recompute else "more devices, or train.recompute true"
        return "\n".join([*lines, f"choice    none fits in {FILLED:.0%} of the memory: {instead}"])
    lines.append(
        f"choice    ZeRO {chosen.stage} with data.micro_tokens {chosen.micro_tokens}: of what fits in {FILLED:.0%} of"
        f" the memory and is within 2 % of the fastest step, the lowest stage, then what is nearest to the recipe's;"
        f" {chosen.seconds / own.seconds:.2f} x the recipe's step"
    )
    return "\n".join(lines)


def _hidden(own: Estimate) -> list[str]:
    """What of the sending could go on behind computing."""
    if not own.network:
        return []
    most = total(own.hidden)
    return [
        *_table("of the sending, what could go on behind computing at the most", own.hidden, 1e-3, "ms"),
        f"hidden    {most * 1e3:,.3f} of {own.sending * 1e3:,.3f} ms of sending at the most: a step of"
        f" {(own.seconds - most) * 1e3:,.3f} ms; above and below, nothing is",
    ]


def _streams(job: Job, cluster: Cluster, own: Estimate, teacher: ModelConfig | None) -> list[str]:
    seconds = own.seconds
    lines = _table("read from storage", {"by all loaders": streams.read(job.work.tokens, seconds)}, 1e6, "MB/s")
    if teacher:
        answered = streams.answers(teacher, job.work.masked, seconds)
        lines += _table("sent by teachers to all students, each codec by itself", answered, 1e6, "MB/s", summed=False)
        needed = streams.teachers(teacher, job.work, own.micro_steps, job.precision, cluster, seconds)
        lines.append(f"teachers  {needed.value:,.0f} devices keep {cluster.ranks} students at work = {needed.how}")
    return lines


def _failures(failures: Failures, own: Estimate, steps: int, every: int) -> list[str]:
    """Args: steps: of the run. every: steps between two of the recipe's checkpoints."""
    often = "none" if math.isinf(failures.mtbf) else f"one in {failures.mtbf / 3600:,.1f} hours"
    best = f"best is a checkpoint at the end, after {steps:,} steps"
    if failures.interval < steps * own.seconds:
        between = max(1, round(failures.interval / own.seconds))
        best = f"best is a checkpoint in {failures.interval:,.0f} s, {between:,} steps"
    interval = min(failures.interval, steps * own.seconds)
    return [
        f"failures  {often}; a checkpoint stalls {failures.stall * 1e3:,.1f} ms, is"
        f" written in {failures.written:,.2f} s, a restart takes {failures.restart:,.0f} s",
        f"          {best}, which loses"
        f" {failures.lost(interval):.2%} of the time; the recipe's {every:,} steps lose"
        f" {failures.lost(every * own.seconds):.2%}",
    ]


def _table(
    title: str, amounts: dict[str, Amount], unit: float, name: str, whole: bool = False, summed: bool = True
) -> list[str]:
    """Each amount with its arithmetic, and their sum."""
    lines = [title]
    for what, amount in amounts.items():
        how = f" = {amount.how}" if amount.how else f" = {amount.value:,.0f}" if whole else ""
        lines.append(f"  {what:<26}{amount.value / unit:>14,.3f} {name}{how}")
    if summed and len(amounts) != 1:
        lines.append(f"  {'together':<26}{total(amounts) / unit:>14,.3f} {name}")
    return lines
