"""What a machine computes with, where it has no GPU."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, as Linux tells it, or else what kind it is."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
