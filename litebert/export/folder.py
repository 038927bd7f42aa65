"""A folder that is there whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Gives a folder aside to write into, which gets its name at the end; whatever is raised leaves nothing behind.

    It is written in a folder of its own beside the target, `.NAME.` and something random, so that commands with one
    target do not meet. A command that is killed leaves that behind: to others it looks like one that is still at work,
    and only its user knows that it may be removed.

    Raises ValueError where there is something of that name already, other than an empty folder, or is by the end.
    """
    _check(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as aside:
        folder = Path(aside) / output.name  # within, for the one aside is closed to others, and this need not be
        folder.mkdir()
        yield folder
        for file in filter(Path.is_file, folder.rglob("*")):
            file.chmod(folder.stat().st_mode & 0o666)  # safetensors writes for its user alone
        _check(output)
        folder.rename(output)


def _check(output: Path) -> None:
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise ValueError(f"{output} exists{' as a link' * output.is_symlink()}; give another --output")
