"""A real Slurm cluster of two nodes on this machine, if Slurm is installed: apt-get install slurm-wlm munge.

Its partition hi preempts what runs in main, the default.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.bench import Bench

_DAEMONS = ("munged", "slurmctld", "slurmd")
_SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=main Nodes=node1,node2 Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=hi Nodes=node1,node2 State=UP PriorityTier=10
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that finds the cluster. Where Slurm is not installed, or we are not root, it is skipped; with
    REQUIRE_SLURM in the environment, as in CI, that is a failure."""
    leave_out = pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip
    paths = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    if missing := [name for name in (*_DAEMONS, "sbatch") if shutil.which(name, path=paths) is None]:
        leave_out(f"no {', '.join(missing)} here: apt-get install slurm-wlm munge")
    if os.geteuid():
        leave_out("Slurm's daemons need root")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    settings = folder / "slurm.conf"
    settings.write_text(_SETTINGS.format(host=socket.gethostname(), folder=folder, ports=_free_ports(3)))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    environment = {**os.environ, "PATH": paths, "SLURM_CONF": str(settings)}
    munge = (f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file"))
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "node1"],
        ["slurmd", "-D", "-N", "node2"],
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            with (folder / f"{command[0]}.{len(started)}.out").open("w") as out:
                started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            time.sleep(0.5)
        _wait_for_nodes(environment, folder)
        yield environment
    finally:
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for_nodes(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        listed = subprocess.run(
            ["sinfo", "-hN", "-p", "main", "-o", "%t"], env=environment, capture_output=True, text=True
        )
        if listed.stdout.split() == ["idle", "idle"]:
            return
        if time.monotonic() > deadline:
            logs = "".join(path.read_text(errors="replace")[-500:] for path in folder.glob("*.out"))
            pytest.fail(f"Slurm did not come up: {listed.stdout}{listed.stderr}{logs}")
        time.sleep(0.2)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Shards, a recipe and a place for runs."""
    return Bench(tmp_path_factory.mktemp("bench"))
