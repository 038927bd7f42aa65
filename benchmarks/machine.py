"""What a benchmark runs on, and how much memory it takes there."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, as Linux tells it, or what kind it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def most_resident() -> float:
    """MB that this process has had at most; Linux's getrusage would count what its parent had."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
