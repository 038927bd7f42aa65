"""How much memory a benchmark takes."""

from __future__ import annotations

from pathlib import Path


def most_resident() -> float:
    """MB that this process has had at most; Linux's getrusage would count what its parent had."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
