"""What the findings of a cluster's processes mean."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from litebert.cluster.probes import Facts, Links

SLOW = 0.8  # of the median: a device below it is slow, and all wait for it
SLOW_LINK = 0.5
CLOCK = 1.0  # seconds that clocks may differ: what is newer than what is told by them


def table(facts: Sequence[Facts], links: Links) -> list[str]:
    """A line a node, and one for the links."""
    lines = [f"{'node':<20}{'ranks':>6}  {'device':<24}{'TFLOP/s, bf16':>16}{'clock':>14}"]
    for node, ranks in _by_node(facts).items():
        rates = [each.matrix / 1e12 for each in ranks]
        rate = f"{min(rates):,.3f}" + (f" to {max(rates):,.3f}" if len(rates) > 1 else "")
        clock = max(ranks, key=lambda each: abs(each.clock)).clock
        device = ", ".join(sorted({each.device for each in ranks}))
        lines.append(f"{node:<20}{len(ranks):>6}  {device:<24}{rate:>16}{clock * 1e3:>+11,.1f} ms")
    if links.together:
        lines.append(f"all-reduce of all {len(facts)} ranks: {links.together / 1e9:,.2f} GB/s each")
    if links.pairs:
        rates = sorted(links.pairs.values())
        middle = statistics.median(rates)
        lines.append(
            f"between two nodes: {middle / 1e9:,.2f} GB/s ({rates[0] / 1e9:,.2f} to {rates[-1] / 1e9:,.2f}),"
            f" {len(rates)} pairs"
        )
    return lines


def problems(facts: Sequence[Facts], links: Links, shared: str) -> list[str]:
    """What should be mended first, a line each."""
    return [*_versions(facts), *_clocks(facts), *_sights(facts, shared), *_devices(facts), *_links(links)]


def _by_node(facts: Sequence[Facts]) -> dict[str, list[Facts]]:
    found: dict[str, list[Facts]] = defaultdict(list)
    for each in facts:
        found[each.node].append(each)
    return found


def _versions(facts: Sequence[Facts]) -> list[str]:
    lines = []
    for name in dict.fromkeys(name for each in facts for name in each.versions):
        nodes: dict[str, list[str]] = defaultdict(list)
        for each in facts:
            found = nodes[each.versions.get(name, "missing")]
            found += [each.node] * (each.node not in found)
        if len(nodes) > 1 and name != "interpreter":
            told = "; ".join(f"{found} on {_some(names)}" for found, names in nodes.items())
            lines.append(f"{name} is not the same everywhere: {told}: start all ranks from one environment")
    return lines


def _clocks(facts: Sequence[Facts]) -> list[str]:
    first = facts[0].node
    off = {each.node: each.clock for each in facts if abs(each.clock) - each.within > CLOCK}
    return [
        f"the clock of {node} is {abs(clock):,.1f} s {'ahead of' if clock > 0 else 'behind'} that of {first}: set both"
        " (chrony)"
        for node, clock in off.items()
    ]


def _sights(facts: Sequence[Facts], shared: str) -> list[str]:
    of = [each.node for each in facts]
    lines = []
    for node, ranks in _by_node(facts).items():
        unseen = dict.fromkeys(of[rank] for each in ranks for rank in each.unseen)
        if unseen:
            lines.append(f"{node} does not see what {_some(list(unseen))} wrote to {shared}: is it really shared?")
        reasons = dict.fromkeys(each.unwritten for each in ranks if each.unwritten)
        lines += [
            f"{node} cannot write to {shared} ({reason}): mend that, or name another folder" for reason in reasons
        ]
    return lines


def _devices(facts: Sequence[Facts]) -> list[str]:
    lines = [f"{each.node}, device of rank {each.rank}: {fault}" for each in facts for fault in each.faults]
    middle = statistics.median(each.matrix for each in facts)
    lines += [
        f"{each.node} is slow: rank {each.rank} computes at {each.matrix / middle:.0%} of the median: leave the node"
        f" out (sbatch --exclude={each.node})"
        for each in facts
        if each.matrix < SLOW * middle
    ]
    return lines


def _links(links: Links) -> list[str]:
    """A node all of whose links are slow is named alone."""
    if len(links.pairs) < 2:
        return []
    middle = statistics.median(links.pairs.values())
    slow = {pair: rate for pair, rate in links.pairs.items() if rate < SLOW_LINK * middle}
    names = dict.fromkeys(name for pair in links.pairs for name in pair)
    cut = [name for name in names if all(pair in slow for pair in links.pairs if name in pair)]
    cut = cut if len(cut) < len(names) else []
    best = {name: max(rate for pair, rate in slow.items() if name in pair) / middle for name in cut}
    lines = [f"all links of {name} are slow, at most {share:.0%} of the median" for name, share in best.items()]
    return lines + [
        f"the link between {one} and {other} is slow, {rate / middle:.0%} of the median"
        for (one, other), rate in slow.items()
        if not {one, other} & set(cut)
    ]


def _some(names: Sequence[str], shown: int = 4) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
