"""The JSON file that figures are to go to: tried before the work that makes them, which may take hours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Set
from pathlib import Path


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


def _has(path: Path, fields: Set[str]) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and fields <= content.keys()
