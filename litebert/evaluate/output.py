"""Where results are to go, a JSON file and the cache of trials: tried before the work, which may take hours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Set
from pathlib import Path

from data_tools.shards.cache import cache_folder


def check(output: Path, fields: Set[str]) -> None:
    """Changes nothing. Raises ValueError where figures could not be written, or would replace something that is none.

    Args:
        fields: of the object that is to be written; a file whose object has them too is an older one of its kind.
    """
    if output.is_dir():
        raise ValueError(f"--output {output}: it is a folder; give a file")
    try:
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise ValueError(f"--output {output}: nothing can be written there: {error.strerror}") from None
    if output.exists() and not _has(output, fields):
        raise ValueError(f"--output {output}: it exists and holds no figures of this kind: give another file")


def trials_folder() -> Path:
    """Makes the folder that trials are kept in. Raises ValueError where nothing can be written there."""
    folder = cache_folder() / "evaluations"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ValueError(
            f"{folder}: no trial can be kept there ({error.strerror}): set LITEBERT_CACHE to another folder"
        ) from None


def _has(path: Path, fields: Set[str]) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and fields <= content.keys()
