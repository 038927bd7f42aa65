"""Runs that nobody has paid for yet: recipes on 8 to 4096 devices, by the plan's arithmetic.

python benchmarks/scaling.py [RECIPE ...] [--device H100] [--length 512] [--per-node 8] [--output scaling.png]

For each number of devices the best ZeRO stage and micro-batch, the step and the share of it that is sending, how well
the devices are used, hours and device-hours to the end, what failures take on top, with checkpoints as often as is
best, and what share of the sending could hide behind computing: in the step, none does. The plot has hours and
device-hours by devices. Any key of the recipes can be overridden as --section.key value. Nothing is run;
docs/scaling.md says what was held to measurements.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from litebert.plan import disk
from litebert.plan.devices import DEVICES
from litebert.plan.estimate import Estimate, Job, best, settings, total
from litebert.plan.failures import Failures
from litebert.plan.network import Cluster
from litebert.plan.work import Work, operations, parameters
from litebert.recipe import Recipe, parse_command

ROOT = Path(__file__).parents[1]
RECIPES = [ROOT / f"launcher/recipes/{name}.yaml" for name in ("albert_base", "albert_xlarge", "bert_base")]
DEVICES_OF_A_RUN = [2**power for power in range(3, 13)]


@dataclasses.dataclass(frozen=True)
class Point:
    """A recipe on a cluster.

    Attributes:
        chosen: the best setting.
        used: share of the devices' matrix rate.
        hours: to the end of the run, failures included.
        lost: share of them that failures and checkpoints take.
        interval: seconds between two checkpoints.
    """

    cluster: Cluster
    chosen: Estimate
    used: float
    hours: float
    lost: float
    interval: float

    def row(self) -> str:
        chosen, ranks = self.chosen, self.cluster.ranks
        hidden = total(chosen.hidden) / chosen.sending
        return (
            f"| {ranks:,} | {chosen.stage} | {chosen.micro_tokens:,} | {chosen.micro_steps} "
            f"| {chosen.seconds * 1e3:,.1f} | {chosen.sending / chosen.seconds:.0%} | {self.used:.0%} "
            f"| {self.hours:,.2f} | {self.hours * ranks:,.0f} | {self.interval / 60:,.1f} | {self.lost:.2%} "
            f"| {hidden:.0%} |"
        )


def point(recipe: Recipe, length: int, cluster: Cluster) -> Point | str:
    """The recipe there; or why it cannot be."""
    recipe, batch = recipe.settled(bf16=True), recipe.data.global_batch
    if batch < cluster.ranks:
        return f"{batch:,} samples of a step are less than one each"
    model, train = recipe.model_config(recipe.model.vocab_size), recipe.train
    job = Job(model, train.precision, Work.full(batch, length), length, train.steps, train.recompute)
    chosen = best(settings(job, cluster), cluster.device.memory, recipe.data.micro_tokens)
    if chosen is None:
        return "no setting fits into the memory"
    done = sum(operations(job.model, job.work).values())
    used = done / chosen.seconds / cluster.ranks / cluster.device.rate(job.precision)
    failures = Failures.of_run(cluster.nodes, sum(parameters(job.model).values()) * disk.KEPT)
    lost = failures.lost(failures.interval)
    hours = recipe.train.steps * chosen.seconds / 3600 / (1 - lost)
    return Point(cluster, chosen, used, hours, lost, failures.interval)


def plot(found: dict[str, list[Point]], path: Path) -> None:
    """Hours, and what they cost, by devices."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, points in found.items():
        ranks = [each.cluster.ranks for each in points]
        axes[0].plot(ranks, [each.hours for each in points], marker="o", label=name)
        axes[1].plot(ranks, [each.hours * each.cluster.ranks for each in points], marker="o", label=name)
    for axis, title in zip(axes, ("hours to the end", "device-hours"), strict=True):
        axis.set(xscale="log", yscale="log", xlabel="devices", title=title)
        axis.set_xticks(DEVICES_OF_A_RUN, [str(each) for each in DEVICES_OF_A_RUN], minor=False, fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="*", default=RECIPES)
    parser.add_argument("--device", choices=DEVICES, default="H100")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sample")
    parser.add_argument("--per-node", type=int, default=8, help="devices of a node")
    parser.add_argument("--output", type=Path, help="picture to write")
    options, overrides = parser.parse_known_args()
    found = {}
    for path in options.recipes:
        recipe = parse_command(["--config", str(path), "--run", "none", "--data", "none", *overrides], "").recipe
        clusters = [
            Cluster(max(1, count // options.per_node), min(count, options.per_node), DEVICES[options.device])
            for count in DEVICES_OF_A_RUN
        ]
        points = {cluster.ranks: point(recipe, options.length, cluster) for cluster in clusters}
        found[path.stem] = [each for each in points.values() if isinstance(each, Point)]
        print(f"\n### {path.stem}, {recipe.data.global_batch:,} samples of {options.length}\n")
        print(
            "| devices | ZeRO | micro_tokens | micro-batches | step ms | sending | of peak | hours | device-hours ",
            end="",
        )
        print("| checkpoint each, min | lost | could hide |\n" + "|---" * 12 + "|")
        print("\n".join(each.row() for each in found[path.stem]))
        for why in dict.fromkeys(each for each in points.values() if isinstance(each, str)):
            without = [f"{count:,}" for count, each in points.items() if each == why]
            print(f"\nNot on {', '.join(without)} devices: {why}.", flush=True)
    if options.output:
        plot(found, options.output)


if __name__ == "__main__":
    main()
