"""Looks at the nodes of a job before a run is sent there: srun python launcher/doctor.py --shared FOLDER

Started as a run would be (srun, torchrun, deepspeed), a rank a device: versions, clocks, whether FOLDER is really
shared, how fast each device computes and each link sends, what GPUs say of their health.

Exit codes: 0 nothing to mend, 1 something is, and each thing is a line that names the node, 2 it could not look, and
says why.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from litebert.cluster.diagnosis import problems, table
from litebert.cluster.probes import probed
from litebert.train.place import Place
from litebert.train.rendezvous import Absent
from litebert.train.world import join_world


def main() -> int:
    """Rank 0 prints; every rank returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="a folder that all nodes should see, as for runs")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # DeepSpeed's launcher says it
    options = parser.parse_args()
    place = Place()
    try:
        place = Place.here()
        world = join_world(place)
        facts, links = probed(world, place, options.shared.absolute())
    except (ValueError, OSError, Absent) as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    except SystemExit:  # rank 0 says who did not come
        return 2
    except RuntimeError as error:  # torch's, on those that are left
        where = f"rank {place.rank}" + f" on {place.node}" * bool(place.node)
        print(f"doctor: {where}: another rank is gone, or its own device fails: {_line(error)}", file=sys.stderr)
        return 2
    found = problems(facts, links, str(options.shared))
    if world.leads:
        print("\n".join(table(facts, links)))
        print("\n".join(f"mend: {line}" for line in found) or "nothing to mend", flush=True)
    world.control.barrier()
    return 1 if found else 0


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
