"""What each process of a cluster finds out, all of them together: the same calls in the same order on every rank."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
import torch.distributed as dist

from litebert.plan.devices import seconds_of
from litebert.train.place import Place
from litebert.train.world import Channel, World

PACKAGES = ("torch", "deepspeed", "transformers", "numpy", "pyarrow")
PINGS = 8
SEEN_WITHIN = 10.0  # seconds: a shared file system may keep what it knew of a folder for some
TRIES = 5
SIDES = {"cuda": 8192, "cpu": 1024}  # of the matrices that are multiplied
BYTES = {"cuda": 2**28, "cpu": 2**22}  # that are sent
HEALTH = {  # fields of nvidia-smi that should be 0, or not active
    "ecc.errors.uncorrected.volatile.total": "uncorrected memory errors since the driver was loaded",
    "retired_pages.pending": "memory pages that wait for a reset to be retired",
    "clocks_throttle_reasons.hw_slowdown": "slowed down by its power supply or heat",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one rank found.

    Attributes:
        rank: its number.
        node: the name of its machine.
        device: what computes there.
        versions: of what a run depends on.
        clock: seconds that its clock is ahead of rank 0's.
        within: seconds that this may be off, half of the time that a message takes there and back.
        unwritten: why it could not write a file to the shared folder; empty where it could.
        unseen: ranks whose file there it did not see.
        matrix: operations per second of a large product, bf16, all ranks at work.
        faults: what its device says is wrong with it.
    """

    rank: int
    node: str
    device: str
    versions: dict[str, str]
    clock: float
    within: float
    unwritten: str
    unseen: list[int]
    matrix: float
    faults: list[str]


@dataclasses.dataclass(frozen=True)
class Links:
    """What is sent in a second, in bytes.

    Attributes:
        together: by each rank in an all-reduce of all, counted as rings send it; 0 of a single rank.
        pairs: between two nodes in both directions at once, other pairs at work beside them.
    """

    together: float
    pairs: dict[tuple[str, str], float]


def probed(world: World, place: Place, shared: Path) -> tuple[list[Facts], Links]:
    """Every rank's facts, and the links, on every rank.

    Args:
        shared: a folder that all nodes should see; each rank puts a file there for a moment.
    """
    ahead = _clocks(world.control)
    unwritten, unseen = sight(shared, world.control)
    own = Facts(
        rank=world.rank,
        node=place.node or socket.gethostname(),
        device=torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else platform.machine(),
        versions=_versions(),
        clock=ahead[world.rank][0],
        within=ahead[world.rank][1],
        unwritten=unwritten,
        unseen=unseen,
        matrix=_matrix(world),
        faults=faults(world.device) if world.device.type == "cuda" else [],
    )
    every = [Facts(**json.loads(text)) for text in world.control.gather(json.dumps(dataclasses.asdict(own)))]
    return every, Links(_together(world), _pairs(world, {facts.node: facts.rank for facts in reversed(every)}))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    if torch.cuda.is_available():
        found |= {"cuda": str(torch.version.cuda), "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
    return found | {"interpreter": sys.executable}


def _clocks(control: Channel) -> list[tuple[float, float]]:
    """Of every rank, on every rank: Cristian's algorithm (1989), the quickest of some pings."""
    found = torch.zeros(control.size, 2, dtype=torch.float64)
    said = torch.zeros(1, dtype=torch.float64)
    for rank in range(1, control.size):
        pings = []
        for _ in range(PINGS):
            if control.rank == 0:
                begun = time.time()
                control.send(said, rank)
                control.receive(said, rank)
                ended = time.time()
                pings.append(((ended - begun) / 2, said.item() - (begun + ended) / 2))
            elif control.rank == rank:
                control.receive(said, 0)
                control.send(torch.tensor([time.time()], dtype=torch.float64), 0)
        if pings:
            found[rank] = torch.tensor(min(pings)[::-1])
    control.total(found)
    return [(clock, within) for clock, within in found.tolist()]


def sight(folder: Path, control: Channel) -> tuple[str, list[int]]:
    """Why it could not write its file, and the ranks whose file did not come into sight, of those who could; the
    others' must also hold what those wrote."""
    token = control.broadcast(secrets.randbits(62))
    files = [folder / f".doctor-{token:x}-{rank}" for rank in range(control.size)]
    own, problem = files[control.rank], ""
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own.write_text(f"{token}")
        except OSError as error:
            problem = f"{error}"
        missing = [rank for rank, text in enumerate(control.gather(problem)) if not text]
        deadline = time.monotonic() + SEEN_WITHIN
        while missing and time.monotonic() < deadline:
            missing = [rank for rank in missing if not _holds(files[rank], f"{token}")]
            time.sleep(0.05 if missing else 0.0)
        control.barrier()
    finally:
        with contextlib.suppress(OSError):  # there is none where it could not be written
            own.unlink()
    return problem, missing


def _holds(path: Path, text: str) -> bool:
    try:
        os.listdir(path.parent)  # makes a network file system look again
        return path.read_text() == text
    except OSError:
        return False


def _matrix(world: World) -> float:
    side = SIDES[world.device.type]
    a = torch.ones(side, side, dtype=torch.bfloat16, device=world.device)
    world.control.barrier()
    times = [seconds_of(lambda: a @ a, world.device) for _ in range(TRIES + 1)]
    return 2 * side**3 / statistics.median(times[1:])


def faults(device: torch.device) -> list[str]:
    """What nvidia-smi says is wrong with a GPU, which it is asked for by UUID: its numbers are not CUDA's, for they
    count what other jobs have as well."""
    own = f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ["nvidia-smi", f"--query-gpu={','.join(HEALTH)}", "--format=csv,noheader,nounits", own]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"nvidia-smi: {error}"]
    return told(done.stdout) if done.returncode == 0 else [f"nvidia-smi: {(done.stdout + done.stderr).strip()}"]


def told(answer: str) -> list[str]:
    """What a line of nvidia-smi's answer to ``HEALTH`` has to say; a device without the field says N/A in brackets."""
    values = [value.strip() for value in answer.strip().split(",")]
    if len(values) != len(HEALTH):
        return [f"nvidia-smi: {answer.strip()!r} has not the {len(HEALTH)} fields that were asked for"]
    well = ("0", "No", "Not Active")
    return [
        f"{meaning} ({value})"
        for meaning, value in zip(HEALTH.values(), values, strict=True)
        if value not in well and not value.startswith("[")
    ]


def _together(world: World) -> float:
    if world.size == 1:
        return 0.0
    numbers = torch.zeros(BYTES[world.device.type] // 4, device=world.device)
    times = [seconds_of(lambda: dist.all_reduce(numbers), world.device) for _ in range(TRIES + 1)]
    return 2 * (world.size - 1) / world.size * numbers.nbytes / statistics.median(times[1:])


def rounds(count: int) -> list[list[tuple[int, int]]]:
    """Every two of so many once, each at most once a round: the circle method."""
    places = [*range(count), *([-1] * (count % 2))]
    found = []
    for _ in range(len(places) - 1):
        half = len(places) // 2
        pairs = zip(places[:half], reversed(places[half:]), strict=True)
        found.append([(min(pair), max(pair)) for pair in pairs if -1 not in pair])
        places = [places[0], places[-1], *places[1:-1]]
    return found


def _pairs(world: World, leaders: dict[str, int]) -> dict[tuple[str, str], float]:
    """By one rank of each node, as many pairs at a time as there are."""
    names = sorted(leaders, key=lambda name: leaders[name])
    sent = torch.zeros(BYTES[world.device.type] // 4, device=world.device)
    got, found = torch.empty_like(sent), {}
    for pairs in rounds(len(names)):
        world.control.barrier()
        mine = next((pair for pair in pairs if world.rank in (leaders[names[pair[0]]], leaders[names[pair[1]]])), None)
        rate = 0.0
        if mine:
            ranks = [leaders[names[place]] for place in mine]
            other = ranks[0] if world.rank == ranks[1] else ranks[1]
            exchange = functools.partial(_exchange, sent, got, other)
            times = [seconds_of(exchange, world.device) for _ in range(TRIES + 1)]
            rate = sent.nbytes / statistics.median(times[1:])
        rates = [float(text) for text in world.control.gather(repr(rate))]
        found.update({(names[one], names[other]): rates[leaders[names[one]]] for one, other in pairs})
    return found


def _exchange(sent: torch.Tensor, got: torch.Tensor, other: int) -> None:
    works = dist.batch_isend_irecv([dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, got, other)])
    for work in works:
        work.wait()
