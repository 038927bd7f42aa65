"""What a process can have of memory, and has had: beside control groups written by hand, and real allocations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from litebert.train.room import available, room
from tests.distributed.bench import environment

CPU = torch.device("cpu")
MB = 1_000_000


def limited(folder: Path, names: tuple[str, str, str], limit: object, used: int, cached: int) -> None:
    """A control group's files."""
    limit_file, used_file, spare = names
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / used_file).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nactive_file 7\n{spare} {cached}\n")


VERSIONS = {
    "0::/user/job": ("", ("memory.max", "memory.current", "inactive_file")),
    "7:cpu,cpuacct:/\n4:memory:/user/job": (
        "memory",
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ),
}


@pytest.mark.parametrize("line", VERSIONS)
def test_the_tightest_of_the_groups_around_a_process_counts(line: str, tmp_path: Path) -> None:
    controller, names = VERSIONS[line]
    groups, process = tmp_path / "groups", tmp_path / "process"
    process.mkdir()
    (process / "cgroup").write_text(f"{line}\n")
    limited(groups / controller / "user" / "job", names, "max" if not controller else 2**62, 90 * MB, 0)
    limited(groups / controller / "user", names, 100 * MB, 90 * MB, 15 * MB)
    limited(groups / controller, names, 300 * MB, 100 * MB, 0)
    assert available(process, groups) == 25 * MB
    limited(groups / controller / "user", names, 100 * MB, 130 * MB, 15 * MB)
    assert available(process, groups) == 0
    (process / "cgroup").write_text("0::/elsewhere\n1:cpu:/user/job\n")
    limited(groups, names, "max", 0, 0)
    assert abs(available(process, groups) - psutil.virtual_memory().available) < 500 * MB


PEAKS = """
import json, torch
from litebert.train.room import forget_peak, peak
cpu = torch.device("cpu")
forget_peak(cpu)
peaks = [peak(cpu)]
held = torch.ones(50_000_000)
peaks.append(peak(cpu))
del held
peaks.append(peak(cpu))
forget_peak(cpu)
print(json.dumps([*peaks, peak(cpu)]))
"""


def test_a_peak_is_what_was_held_since_it_was_forgotten() -> None:
    """In a process of its own: one that has freed memory may give it again instead of growing."""
    found = subprocess.run([sys.executable, "-c", PEAKS], env=environment(), capture_output=True, check=True, text=True)
    before, during, freed, after = json.loads(found.stdout)
    assert 200 * MB <= during - before < 220 * MB
    assert abs(freed - during) < 5 * MB  # Linux counts in batches
    assert after < before + 20 * MB


def test_processes_of_a_host_share_what_is_left_of_it() -> None:
    own = psutil.Process().memory_info().rss
    alone, shared = room(CPU, 1) - own, room(CPU, 4) - own
    assert abs(alone - 4 * shared) < 0.2 * alone


def test_what_started_a_process_is_not_its_peak() -> None:
    held = np.ones(2 * 10**9, dtype=np.uint8)
    program = "import torch; from litebert.train.room import peak; print(peak(torch.device('cpu')))"
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, check=True, text=True
    )
    assert int(found.stdout) < len(held) / 2
