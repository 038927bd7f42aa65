"""What a run will take, before anything runs: python launcher/plan.py RECIPE [--data SHARDS] --device H100 --gpus 8

Memory, step time, hours, disk, network and failures, with the arithmetic, and the setting that would be the best. With
--data, sizes are counted in the shards, else samples are taken to be as long as they may be. --device here measures
some real steps on this machine first, by --gpus processes at a time as far as there are devices. Of a recipe that
distils, the student is planned, with its teachers beside it: --teacher bert-base. Any key of the recipe can be
overridden as --section.key value.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, Literal

import torch

from data_tools.shards.cache import Cache
from litebert.data.corpus import Corpus
from litebert.data.mixture import Mixture
from litebert.data.plan import AUTO, DataConfig
from litebert.model.presets import PRESETS
from litebert.plan.calibration import calibrated
from litebert.plan.devices import DEVICES, computes_bf16
from litebert.plan.estimate import Estimate, Job, best, estimate, settings, sizes
from litebert.plan.failures import DAY, NODE_MTBF
from litebert.plan.network import Cluster
from litebert.plan.page import page
from litebert.plan.work import Work, work_of
from litebert.recipe import parse_command
from litebert.train.ds_config import read_ds_config
from litebert.train.place import Place
from litebert.train.rendezvous import Absent
from litebert.train.world import join_world

HERE = "here"


def _together(processes: int) -> None:
    """Becomes the same command in as many processes as there are devices for, if that is several."""
    cores = len(os.sched_getaffinity(0))
    count = min(processes, torch.cuda.device_count() or cores)
    if count > 1 and Place.here().size == 1:
        launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count))
        threads = {"OMP_NUM_THREADS": str(cores // count)} if not torch.cuda.is_available() else {}
        os.execve(sys.executable, [sys.executable, *launch, *sys.argv], threads | os.environ)


def plan(options: argparse.Namespace, overrides: list[str]) -> str:
    """The page of figures."""
    own = ["--config", str(options.recipe), "--run", "none", "--data", *(options.data or ["none"])]
    if options.teacher:
        own += ["--teacher", options.teacher]
    recipe = parse_command([*own, *overrides], "", distils=bool(options.teacher)).recipe
    local = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = recipe.settled(options.device != HERE or computes_bf16(local))
    ranks = options.nodes * options.gpus
    if recipe.data.global_batch < ranks:
        raise ValueError(f"data.global_batch {recipe.data.global_batch} is too few samples for {ranks:,} devices")
    ds_config = read_ds_config(Path(recipe.train.ds_config), recipe.train.precision)
    batch, steps = recipe.data.global_batch, recipe.train.steps
    corpus = None
    if options.data:
        cache = Cache(Path(recipe.data.cache).expanduser(), int(recipe.data.cache_gb * 1e9))
        corpus = Corpus.opened(options.data, "train", cache)
        recipe.check_data(corpus.seq_length, corpus.pairs)
        work, longest = work_of(corpus, recipe.data.mixture, batch, steps), corpus.seq_length
    else:
        lengths, longest = options.length, max(options.length)
        recipe.check_data(longest, recipe.objective.pairs or "none")
        taken = Mixture([1] * len(lengths), recipe.data.mixture, batch).taken(steps) / steps
        parts = [Work.full(1, length).times(n) for length, n in zip(lengths, taken.tolist(), strict=True)]
        work = sum(parts, Work(0, 0, 0, 0))
    if options.device != HERE:
        device = DEVICES[options.device]
    elif corpus is None:
        raise ValueError("--device here measures real steps: give it --data SHARDS")
    else:
        _together(options.gpus)
        measured = recipe
        if recipe.data.micro_tokens == AUTO:  # what is measured is to be a number
            data = dataclasses.replace(recipe.data, micro_tokens=max(DataConfig().budget, 2 * longest))
            measured = dataclasses.replace(recipe, data=data)
        device = calibrated(measured, corpus, ds_config, join_world(), ranks)
    cluster = Cluster(options.nodes, options.gpus, device)
    model = recipe.model_config(corpus.vocab_size if corpus else recipe.model.vocab_size)
    job = Job(model, recipe.train.precision, work, longest, steps, recipe.train.recompute)
    all_settings = settings(job, cluster)
    here = _here(job, cluster, ds_config, recipe.data.micro_tokens)
    teacher = PRESETS[options.teacher] if options.teacher else None
    chosen = best(all_settings, device.memory, recipe.data.micro_tokens)
    return page(recipe, job, cluster, corpus, here, all_settings, chosen, teacher, options.node_mtbf_days * DAY)


def _here(job: Job, cluster: Cluster, ds_config: dict[str, Any], micro_tokens: int | Literal["auto"]) -> Estimate:
    """The recipe's setting. Its auto is the best size at its stage, or the smallest where none fits."""
    if micro_tokens != AUTO:
        return estimate(job, cluster, ds_config, int(micro_tokens))
    possible = [estimate(job, cluster, ds_config, size) for size in sizes(job, cluster)]
    return best(possible, cluster.device.memory) or possible[0]


def main() -> int:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="the recipe's file")
    parser.add_argument("--data", nargs="+", help="folders of shards, paths or URLs")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--gpus", type=int, default=1, help="devices of each, or processes on a machine without")
    parser.add_argument(
        "--device", choices=[*DEVICES, HERE], default="H100", help="their kind; here: measure this machine"
    )
    parser.add_argument(
        "--length", type=int, nargs="+", default=[128], help="without --data: tokens of a sample, for each folder"
    )
    parser.add_argument("--teacher", choices=PRESETS, help="shape of a teacher whose answers the model learns from")
    parser.add_argument(
        "--node-mtbf-days", type=float, default=NODE_MTBF / DAY, help="days between two failures of a node (Llama 3's)"
    )
    options, overrides = parser.parse_known_args()
    try:
        if min(options.nodes, options.gpus, *options.length) < 1:
            raise ValueError("--nodes, --gpus and --length are 1 or more")
        if not options.node_mtbf_days > 0:
            raise ValueError("--node-mtbf-days is above 0")
        told = plan(options, overrides)
        if Place.here().rank == 0:
            print(told)
    except (ValueError, OSError, Absent) as error:
        print(f"plan: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
