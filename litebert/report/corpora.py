"""The shards that runs were trained on, found again and known by their fingerprint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from data_tools.shards.manifest import FILE, Manifest
from litebert.data.corpus import Corpus
from litebert.data.split import opened
from litebert.plan.work import work_of
from litebert.report.runs import Run


@dataclasses.dataclass(frozen=True)
class Text:
    """What runs were trained on.

    Attributes:
        corpus: its training split.
        manifests: of its folders.
    """

    corpus: Corpus
    manifests: Sequence[Manifest]

    def tokens(self, run: Run) -> float:
        """That a run has seen: its steps times the mean of a batch."""
        if not run.step:
            return 0.0
        return work_of(self.corpus, run.recipe.data.mixture, run.recipe.data.global_batch, run.step).tokens * run.step

    def epochs(self, run: Run) -> float:
        """How often a run has seen the samples, on the mean."""
        return run.step * run.recipe.data.global_batch / self.corpus.samples


def texts_of(runs: Sequence[Run], given: Sequence[str]) -> tuple[dict[str, Text], list[str]]:
    """The shards of runs, by their fingerprint, and in a line each what is not found where its run has it.

    Args:
        given: folders to look at beside those that the runs name; a URL is looked at only where it is given.

    Raises:
        ValueError: a given folder is none of shards, or not what a run was trained on.
    """
    wanted = {run.fingerprints["data"] for run in runs}
    found = {text.corpus.fingerprint: text for text in (_text([place]) for place in given)}
    found = {own: text for own, text in found.items() if own in wanted}
    if not found and len(given) > 1:
        together = _text(given)
        found = {own: together for own in [together.corpus.fingerprint] if own in wanted}
    used = {split.location for text in found.values() for split in text.corpus.splits}
    if unused := [place for place in given if place not in used]:
        raise ValueError(f"{unused[0]} is not what any of these runs was trained on: leave it out, or give that")
    missing = []
    for run in runs:
        if run.fingerprints["data"] not in found:
            try:
                found[run.fingerprints["data"]] = _where_it_was(run)
            except ValueError as error:
                missing.append(f"{run.name}: nothing of its data ({error}); --data says where they are")
    return found, missing


def _where_it_was(run: Run) -> Text:
    """The shards of a run. Raises ValueError where they are not there any more."""
    if afar := [place for place in run.data if "://" in place]:
        raise ValueError(f"{afar[0]} is not asked for")
    if not run.data:
        raise ValueError("the run does not say where they are")
    text = _text(run.data)
    if text.corpus.fingerprint != run.fingerprints["data"]:
        raise ValueError(f"{', '.join(run.data)} has changed since")
    return text


def _text(places: Sequence[str]) -> Text:
    corpus = Corpus.opened(places, "train")
    return Text(corpus, [Manifest.parse(opened(place).whole(FILE), f"{place}/{FILE}") for place in places])
