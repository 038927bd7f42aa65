"""A real Slurm cluster of four nodes on this machine, if Slurm is installed: apt-get install slurm-wlm munge.

Its partition hi preempts what runs in main, the default.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.bench import Bench

NODES = ("node1", "node2", "node3", "node4")
_PATH = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
_DAEMONS = ("munged", "slurmctld", "slurmd")
_SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
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
SlurmdTimeout=10
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=hi Nodes=ALL State=UP PriorityTier=10
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000"


class Cluster:
    """Its daemons; a node's, and all processes of its jobs, are a PID namespace, so that it can die as machines do.

    Attributes:
        environment: that finds it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, host, (own, *ports) = folder, socket.gethostname(), _free_ports(1 + len(NODES))
        (folder / "state").mkdir()
        settings = folder / "slurm.conf"
        nodes = [_NODE.format(name=name, host=host, port=port) for name, port in zip(NODES, ports, strict=True)]
        settings.write_text(_SETTINGS.format(host=host, folder=folder, port=own, nodes="\n".join(nodes)))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        self.environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(settings)}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @contextlib.contextmanager
    def up(self) -> Iterator[Cluster]:
        """All daemons, for as long as this lasts."""
        munge = (f"--{name}={self._folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file"))
        key = f"--key-file={self._folder}/munge.key"
        try:
            self._start("munged", ["munged", "--foreground", "--force", key, *munge])
            self._start("slurmctld", ["slurmctld", "-D"])
            for name in NODES:
                self.revive(name)
            self.wait_for_nodes()
            yield self
        finally:
            for node in set(NODES) & set(self._daemons):
                self.kill(node)  # as unshare waits for its child, whatever it is told
            for daemon in self._daemons.values():
                daemon.terminate()
            for daemon in self._daemons.values():
                try:
                    daemon.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    daemon.kill()

    def kill(self, node: str) -> None:
        """With -9: its daemon and everything that it started."""
        self._daemons[node].kill()
        self._daemons[node].wait()

    def revive(self, node: str) -> None:
        """A daemon, on a node without one."""
        space = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._start(node, [*space, "slurmd", "-D", "-N", node])

    def wait_for_nodes(self) -> None:
        """Until all are idle."""
        deadline = time.monotonic() + 60
        while True:
            command = ["sinfo", "-hN", "-p", "main", "-o", "%t"]
            listed = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            if listed.stdout.split() == ["idle"] * len(NODES):
                return
            if time.monotonic() > deadline:
                logs = "".join(path.read_text(errors="replace")[-500:] for path in self._folder.glob("*.out"))
                pytest.fail(f"Slurm did not come up: {listed.stdout}{listed.stderr}{logs}")
            time.sleep(0.2)

    def _start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.out").open("a") as out:
            self._daemons[name] = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)
        time.sleep(0.5)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Where Slurm is not installed, or we are not root, it is skipped; with REQUIRE_SLURM in the environment, as in CI,
    that is a failure."""
    leave_out = pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip
    if missing := [name for name in (*_DAEMONS, "sbatch") if shutil.which(name, path=_PATH) is None]:
        leave_out(f"no {', '.join(missing)} here: apt-get install slurm-wlm munge")
    if os.geteuid():
        leave_out("Slurm's daemons need root")
    with Cluster(tmp_path_factory.mktemp("slurm")).up() as up:
        yield up


@pytest.fixture(scope="session")
def slurm(cluster: Cluster) -> dict[str, str]:
    """The environment that finds the cluster."""
    return cluster.environment


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Shards, a recipe and a place for runs."""
    return Bench(tmp_path_factory.mktemp("bench"))
