"""How much memory a process can have, and how much it has had at the most: of a GPU, or of its host."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

_PROCESS = Path("/proc/self")
_GROUPS = Path("/sys/fs/cgroup")
# What a control group may have, has, and could give back of that, by version: files, and an entry of memory.stat.
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def room(device: torch.device, sharing: int) -> int:
    """Bytes that this process has and could still have.

    Args:
        sharing: processes of the host that divide what is left of its memory among them. A GPU is nobody else's.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    return _status("VmRSS") + available() // sharing


def forget_peak(device: torch.device) -> None:
    """Lets ``peak`` count from here. Raises OSError where the system has no such thing."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError as error:
        raise OSError(
            f"this system does not tell how much memory work takes ({error}): say data.micro_tokens"
        ) from None


def peak(device: torch.device) -> int:
    """Bytes that this process has had at once, at the most.

    On Linux not by ``getrusage``, which begins with what the process had that started this one.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") if sys.platform == "linux" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """Bytes that a host could still give: what is not in use, or less where a control group of the process has less.

    Args:
        process: where Linux tells of it.
        groups: where control groups are mounted.
    """
    return max(0, min([psutil.virtual_memory().available, *_left(process, groups)]))


def _left(process: Path, groups: Path) -> Iterator[int]:
    """Of each control group that limits the process's memory, its own and those around it."""
    for line in (process / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            (limit, used, spare), top = _VERSION_1, groups / "memory"
        elif not controllers:
            (limit, used, spare), top = _VERSION_2, groups
        else:
            continue
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(top) and (group / limit).exists():
                granted = (group / limit).read_text().strip()
                if granted != "max":
                    cached = re.search(rf"^{spare} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
                    yield int(granted) - int((group / used).read_text()) + int(cached[1] if cached else 0)


def _status(name: str) -> int:
    """Bytes of an entry of the process's status, which counts in kB."""
    (line,) = (line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
