"""Where the ranks of a run meet, how long they wait for each other, and who is named when somebody does not come.

MASTER_ADDR and MASTER_PORT say where rank 0 listens. Where srun started the ranks and they are not set, that is the
step's first node, and a port that follows from the job's number.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import subprocess
import time
from collections import Counter

import psutil
from torch.distributed import PrefixStore, Store, TCPStore

from litebert.train.place import SRUN, Place, job_port, number

LIMIT = "RENDEZVOUS_SECONDS"  # the environment variable that sets another limit
_LIMIT = 300.0  # seconds: nodes that read Python from one file system take minutes to start on it
_GRACE = 10.0  # that rank 0 has more than the others
_LOOK_EVERY = 0.1
_PART = datetime.timedelta(seconds=60)  # for one thing that is asked of a store which is there
_SHOWN = ("NCCL_", "TORCH_NCCL_")


class Absent(Exception):
    """Not all ranks came."""


def meet(place: Place) -> Store | None:
    """Waits until all ranks are there; afterwards the environment says to torch and DeepSpeed where they meet.

    Returns:
        what they met at, to be kept until torch has opened its own, which rank 0's process then serves from this one.

    Raises:
        Absent: within the limit not all came, and who did not; or rank 0 cannot be reached or cannot listen.
        ValueError: the launcher did not say where, or what it said, or ``LIMIT``, is no number.
    """
    (address, port), limit = _meeting_point(place), _limit()
    os.environ.update(
        RANK=str(place.rank),
        WORLD_SIZE=str(place.size),
        LOCAL_RANK=str(place.local_rank),
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
    )
    if place.size == 1:
        return None
    deadline = time.monotonic() + limit
    opened = _opened(place, address, port, deadline)
    store = PrefixStore(f"rendezvous/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", opened)
    store.set(f"came/{place.rank}", place.node)
    if place.rank == 0:
        if absent := _wait_for_all(place, store, deadline):
            raise Absent(
                f"{absent} did not come to {address}:{port} within {limit:.0f} s: look what they say, and whether they "
                f"can reach this address; MASTER_ADDR and MASTER_PORT set another, {LIMIT} a longer time"
            )
        store.set("complete", "yes")
    else:
        _wait_for_word(store, deadline)
    if "GLOO_SOCKET_IFNAME" not in os.environ and (name := _interface(place, address)):
        os.environ["GLOO_SOCKET_IFNAME"] = name  # gloo would take what the host name stands for, often 127.0.1.1
    return opened


def described(place: Place, backend: str, threads: int) -> str:
    """The ranks, where they are, and what was set of how they talk and compute, in a line."""
    nodes = f" on {len(place.nodes)} nodes: {', '.join(place.nodes)}" if len(place.nodes) > 1 else ""
    over = os.environ.get("GLOO_SOCKET_IFNAME")
    told = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(_SHOWN)]
    return "; ".join(
        [
            f"ranks  {place.size}{nodes}",
            f"rank 0 at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            ", ".join(dict.fromkeys([backend, "gloo"])) + f" over {over}" * bool(over),
            f"{threads} threads, bound to {len(os.sched_getaffinity(0))} CPUs",
            *told,
        ]
    )


def _limit() -> float:
    text = os.environ.get(LIMIT, str(_LIMIT))
    with contextlib.suppress(ValueError):
        if (limit := float(text)) >= 0:
            return limit
    raise ValueError(
        f"{LIMIT}={text} is in the environment, and is no number of seconds: set one, such as {_LIMIT:.0f}"
    )


def _meeting_point(place: Place) -> tuple[str, int]:
    address = os.environ.get("MASTER_ADDR", "")
    port = number(os.environ, "MASTER_PORT") if os.environ.get("MASTER_PORT") else 0
    if place.launcher == SRUN:
        address = address or reachable(next(iter(place.nodes), socket.gethostname()))
        return address, port or job_port()
    if place.launcher and not (address and port):
        raise ValueError("RANK is in the environment, and not MASTER_ADDR and MASTER_PORT: set where rank 0 listens")
    if place.launcher:
        return address, port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", int(probe.getsockname()[1])


def reachable(node: str) -> str:
    """A node's name if it means something here, else the address that Slurm knows it by."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo(node, None)
        return node
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        shown = subprocess.run(["scontrol", "show", "node", node], capture_output=True, text=True, check=True).stdout
        fields = dict(word.split("=", 1) for word in shown.split() if "=" in word)
        return fields.get("NodeAddr", node)
    return node


def _opened(place: Place, address: str, port: int, deadline: float) -> Store:
    """The store that rank 0 keeps, or that of torchrun, which torch will use as well."""
    kept_by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    leads = place.rank == 0 and not kept_by_agent
    if not leads:
        _wait_for_listener(place, address, port, deadline)
    try:
        return TCPStore(address, port, None, leads, _PART, wait_for_workers=False, multi_tenant=True)
    except RuntimeError as error:
        wrong = "cannot listen there" if leads else "is no store of torch"
        raise Absent(f"rank {place.rank}: {address}:{port} {wrong}: set another MASTER_PORT ({error})") from None


def _wait_for_listener(place: Place, address: str, port: int, deadline: float) -> None:
    """A rank may come long before rank 0; torch's own waiting would hear no signal."""
    while True:
        try:
            with socket.create_connection((address, port), timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                where = f"rank {place.rank}" + f" on {place.node}" * bool(place.node)
                raise Absent(
                    f"{where} cannot reach rank 0 at {address}:{port} ({error}): has it started, and is this the "
                    "address of its node? MASTER_ADDR and MASTER_PORT set another"
                ) from None
            time.sleep(_LOOK_EVERY)


def _wait_for_all(place: Place, store: Store, deadline: float) -> str:
    """Who did not come, in words; nothing where all did."""
    missing = set(range(place.size))
    while missing := {rank for rank in missing if not store.check([f"came/{rank}"])}:
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_EVERY)
    if not missing or not place.nodes:
        return f"of {place.size} ranks {', '.join(map(str, sorted(missing)))}" if missing else ""
    came = Counter(store.get(f"came/{rank}").decode() for rank in range(place.size) if rank not in missing)
    return ", ".join(
        f"{node} ({count - came[node]} of its {count} ranks)"
        for node, count in place.nodes.items()
        if came[node] < count
    )


def _wait_for_word(store: Store, deadline: float) -> None:
    """Rank 0 alone says who is missing, so where it does not call, the others end without a word."""
    try:
        while not store.check(["complete"]) and time.monotonic() < deadline + _GRACE:
            time.sleep(_LOOK_EVERY)
        if store.check(["complete"]):
            return
    except RuntimeError:
        pass  # rank 0 is gone
    raise SystemExit(1)


def _interface(place: Place, address: str) -> str:
    """The network interface by which this machine reaches another of the run; empty where that cannot be told."""
    others = [name for name in place.nodes if name != place.node]
    with contextlib.suppress(OSError):
        family, *_, there = socket.getaddrinfo(reachable(others[0]) if others else address, 9, type=socket.SOCK_DGRAM)[
            0
        ]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(there)  # sends nothing
            own = str(probe.getsockname()[0])
        if ipaddress.ip_address(own).is_loopback and place.launcher != SRUN and place.local_size < place.size:
            return ""  # the launcher's name of this machine for itself
        names = [name for name, its in psutil.net_if_addrs().items() if own in (each.address for each in its)]
        return names[0] if names else ""
    return ""
