"""Two nodes as network namespaces, each with an address, a host name and an sshd; and a cable between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

NAMES = ("alpha", "beta")
TOOLS = ("ip", "nsenter", "unshare", "ssh-keygen", "pdsh", "sshd")
_SSHD = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
"""
_SSH = """
IdentityFile {folder}/key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
"""


class Nodes:
    """The nodes alpha and beta.

    Attributes:
        folder: keys, and the file that names both addresses.
        hostfile: that DeepSpeed reads, a slot each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._tag = folder, f"lb{os.getpid()}"
        self.hostfile = folder / "hostfile"
        self.hostfile.write_text("".join(f"{name} slots=1\n" for name in NAMES))
        lines = [f"{self._address(number)} {name}\n" for number, name in enumerate(NAMES)]
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))
        self._daemons: list[subprocess.Popen[bytes]] = []

    @contextlib.contextmanager
    def up(self) -> Iterator[Nodes]:
        """The cable, the nodes, and what listens on them, for as long as this lasts."""
        for key in ("key", "host_key"):
            _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        (self.folder / "sshd_config").write_text(_SSHD.format(folder=self.folder))
        (self.folder / "ssh_config").write_text(_SSH.format(folder=self.folder))
        Path("/run/sshd").mkdir(exist_ok=True)
        try:
            for number in range(2):
                _do("ip", "netns", "add", self._space(number))
            ends = [f"{self._tag}v{number}" for number in range(2)]
            _do("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for number, end in enumerate(ends):
                space = self._space(number)
                _do("ip", "link", "set", end, "netns", space, "name", "cable")
                _do("ip", "-n", space, "address", "add", f"{self._address(number)}/24", "dev", "cable")
                self.cable(number, True)
                _do("ip", "-n", space, "link", "set", "lo", "up")
            for name in NAMES:
                sshd = [shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "sshd", "-D", "-e"]
                self._daemons.append(self.start(name, [*sshd, "-f", str(self.folder / "sshd_config")]))
            yield self
        finally:
            for daemon in self._daemons:
                daemon.kill()
                daemon.wait()
            for number in range(2):
                subprocess.run(["ip", "netns", "del", self._space(number)], check=False, capture_output=True)

    def start(self, name: str, command: list[str], **more: object) -> subprocess.Popen[bytes]:
        """A process on a node."""
        space = self._space(NAMES.index(name))
        own = {"hosts": "/etc/hosts", "ssh_config": "/etc/ssh/ssh_config"}
        mounts = "".join(f"mount --bind {self.folder}/{file} {place}; " for file, place in own.items())
        inside = f'set -e; hostname {name}; {mounts} exec "$@"'
        entered = ["nsenter", f"--net=/run/netns/{space}", "unshare", "--uts", "--mount"]
        return subprocess.Popen([*entered, "bash", "-c", inside, "node", *command], **more)  # type: ignore[call-overload]

    def cable(self, number: int, whole: bool) -> None:
        """Plugs in a node's end of it, or pulls it out."""
        _do("ip", "-n", self._space(number), "link", "set", "cable", "up" if whole else "down")

    def _space(self, number: int) -> str:
        return f"{self._tag}n{number}"

    def _address(self, number: int) -> str:
        return f"10.203.77.{number + 1}"


def nodes_or_skip(folder: Path) -> Nodes:
    """The nodes, not up yet. Where there are no means for them the test is skipped; with REQUIRE_SLURM in the
    environment, as in CI, that is a failure."""
    leave_out = pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [name for name in TOOLS if shutil.which(name, path=path) is None]:
        leave_out(f"no {', '.join(missing)} here: apt-get install openssh-server pdsh iproute2")
    if os.geteuid():
        leave_out("network namespaces need root")
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)
    if probe.returncode:
        leave_out(f"no network namespaces here: {probe.stderr.strip()}")
    return Nodes(folder)


def _do(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
