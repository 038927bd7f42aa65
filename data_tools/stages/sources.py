"""The sources of a corpus, numbered, once all of it is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_tools.documents.mixture import MixConfig
from data_tools.stages.cleaning import ReadCounts
from data_tools.work import Work, load_json, save_json

MAX_SOURCES = 65535
ALL = "all"
_FILE = "sources.json"
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Sources:
    """One item, which leaves the names of all sources, sorted.

    Attributes:
        work: the work folder.
        mix: whose names must be among them.
        cleaned: the stage that counted them.
    """

    work: Work
    mix: MixConfig
    cleaned: str
    name: str = "sources"

    def items(self) -> list[str]:
        """The one."""
        return [ALL]

    def run(self, item: str, folder: Path) -> None:
        """Gather the names. Raises ValueError where there are too many, or the mix names one that is not there."""
        found: set[str] = set()
        for part in self.work.finished(self.cleaned):
            found.update(ReadCounts.load(self.work.path(self.cleaned, part)).sources)
        if len(found) > MAX_SOURCES:
            raise ValueError(
                f"{len(found):,} sources, {MAX_SOURCES:,} are the most; --reader.source_field names a field that tells"
                " documents apart, not sources: choose another, or none and the file's name is the source"
            )
        sources = sorted(found)
        if unknown := sorted({*self.mix.weights, *self.mix.heldout} - found):
            there = ", ".join(sources[:_SHOWN]) + f" and {len(sources) - _SHOWN:,} more" * (len(sources) > _SHOWN)
            raise ValueError(f"mix: no source {', '.join(unknown)}; there are {there or 'none'}")
        save_json(folder / _FILE, sources)


def load_sources(work: Work) -> list[str]:
    """The names, at their numbers."""
    return list(load_json(work.path("sources", ALL) / _FILE))
