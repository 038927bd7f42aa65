"""The file of all that a build rejected, as jsonl. It never takes the place of another file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_tools.documents.document import Rejected
from data_tools.documents.parts import RawPart, read_dropped
from data_tools.shards.manifest import Manifest
from data_tools.stages.reading import PARTS
from data_tools.work import Work, load_json, save_json, synchronize

_MARK = "rejects.json"  # in the work folder: where this build has put them, or is about to


def check_writable(path: Path) -> None:
    """Raises ValueError where no file can be made, whatever is there now."""
    if path.is_dir():
        raise ValueError(f"--rejects {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"--rejects {path}: there is no folder {path.parent}; make it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"--rejects {path}: nothing may be written into {path.parent}; give another place")


def check_free(work: Work, path: Path) -> None:
    """Raises ValueError where a file is there that this build has not written, before it was killed."""
    mark = work.folder / _MARK
    if os.path.lexists(path) and not (mark.exists() and load_json(mark) == str(path.absolute())):
        raise ValueError(f"--rejects {path} exists; remove it, or give another file")


def check_kept(path: Path, output: Path, manifest: Manifest) -> None:
    """Raises ValueError where a file does not hold as many rejects for each reason as a finished build has had."""
    if not os.path.lexists(path):
        raise ValueError(f"{output} is already built; for its rejects in {path}, build into another --output")
    try:
        with path.open(encoding="utf-8") as stream:
            found = Counter(json.loads(line)["reason"] for line in stream)
    except (ValueError, TypeError, KeyError):
        found = None
    if found != manifest.rejected:
        raise ValueError(f"{output} is already built, and --rejects {path} exists but does not hold its rejects")


def write_rejects(work: Work, dropping: Sequence[str], path: Path, progress: Callable[[int], None]) -> None:
    """Write all that was rejected, in the order of the corpus: what could not be read with its place and what is wrong,
    documents with their text as it was read.

    Args:
        dropping: the stages that do not keep every document.
        progress: told how many parts are done.

    Raises ValueError where the file has come to be there meanwhile.
    """
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        for part in work.finished(PARTS):
            records = (json.dumps(record, ensure_ascii=False) + "\n" for record in _rejected(work, dropping, part))
            stream.writelines(record.encode(errors="replace") for record in records)
            progress(1)
    synchronize(partial)
    check_free(work, path)
    save_json(work.folder / _MARK, str(path.absolute()))
    synchronize(work.folder / _MARK)
    partial.replace(path)


def _rejected(work: Work, dropping: Sequence[str], part: str) -> Iterator[dict[str, Any]]:
    dropped = {one.place: one for stage in dropping for one in read_dropped(work.path(stage, part))}
    for place, item in enumerate(RawPart.load(work.path(PARTS, part)).items):
        if isinstance(item, Rejected):
            yield dataclasses.asdict(item)
        elif one := dropped.get(place):
            yield {"reason": one.reason, "detail": one.detail, **dataclasses.asdict(item)}
