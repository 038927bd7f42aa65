"""The doctor, started by srun on two nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.bench import REPOSITORY, environment

pytestmark = pytest.mark.distributed


def seen(slurm: dict[str, str], command: list[str]) -> subprocess.CompletedProcess[str]:
    """What ranks on two nodes, two on each, have to say."""
    given = slurm | environment(PATH=slurm["PATH"])
    srun = ["srun", "--nodelist=node1,node2", "--ntasks-per-node=2", "--overcommit"]
    return subprocess.run([*srun, *command], env=given, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


def test_nodes_are_seen_with_their_link(slurm: dict[str, str], tmp_path: Path) -> None:
    done = seen(slurm, [sys.executable, "launcher/doctor.py", "--shared", str(tmp_path / "runs")])
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("node") and " ms" in line] == [
        ["node1", "2"],
        ["node2", "2"],
    ], done.stderr
    assert "all-reduce of all 4 ranks" in done.stdout and ", 1 pairs" in done.stdout
    assert not list((tmp_path / "runs").iterdir())
    wrong = [line for line in lines if line.startswith("mend:")]
    assert all("is slow" in line for line in wrong), "of one machine with other work no more can be wrong"


def test_a_folder_of_each_nodes_own_and_another_library_are_found(slurm: dict[str, str], tmp_path: Path) -> None:
    """Both made of the node's name, before the doctor starts."""
    other = tmp_path / "node2" / "numpy-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9.9\n")
    doctor = f"{sys.executable} launcher/doctor.py --shared {tmp_path}/runs-of-$SLURMD_NODENAME"
    paths = f'PYTHONPATH={tmp_path}/$SLURMD_NODENAME:"$PYTHONPATH"'
    done = seen(slurm, ["bash", "-c", f"{paths} exec {doctor}"])
    assert done.returncode != 0
    for one, other_node in (("node1", "node2"), ("node2", "node1")):
        assert f"mend: {one} does not see what {other_node} wrote to" in done.stdout, done.stderr
    assert "mend: numpy is not the same everywhere: " in done.stdout and "; 9.9.9 on node2: start all" in done.stdout
