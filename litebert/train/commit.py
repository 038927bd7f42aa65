"""The commit of this code, as git knows it."""

from __future__ import annotations

import subprocess
from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
CHANGED = "-changed"  # behind a commit whose files are not all as it has them


def commit(code: Path = CODE) -> str:
    """Its hash, in hex, with CHANGED behind it where that is so; empty where the code lies in no repository of its own.

    Args:
        code: a folder of the repository. One that git does not track, as of an installed package in somebody's project,
            has no commit.
    """
    if not _git(code, "ls-files", "."):
        return ""
    return _git(code, "describe", "--always", "--exclude=*", "--abbrev=40", f"--dirty={CHANGED}")


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing where there is no git, or it refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
