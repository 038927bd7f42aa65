"""A report as one HTML page that needs nothing else, with its pictures as PNG files beside it."""

from __future__ import annotations

import base64
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from litebert.report import plots, remarks, tables, trade
from litebert.report.corpora import Text
from litebert.report.marks import marks
from litebert.report.results import Measured
from litebert.report.runs import Run

OURS = '<meta name="generator" content="litebert report">'  # by which a page is known that may be replaced
TEMPLATE = "page.html"
PICTURES = ("size", "latency", "curves")  # that a report may have


@dataclasses.dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        runs: a row each.
        measured: what is known of them beside their folders, by name.
        texts: their shards, by fingerprint.
        missing: lines on what was not found.
        teachers: by which of the runs each was taught, by name.
        files: that figures are from.
    """

    runs: Sequence[Run]
    measured: Mapping[str, Measured]
    texts: Mapping[str, Text]
    missing: Sequence[str]
    teachers: Mapping[str, str]
    files: Sequence[Path]

    def write(self, output: Path) -> list[Path]:
        """Writes the page and its pictures; returns their paths, the page's first.

        Raises ValueError where there is something of one of these names that is not from here.
        """
        check(output)
        pictures = {name: plots.png(figure) for name, figure in self.figures().items()}
        output.parent.mkdir(parents=True, exist_ok=True)
        _replace(output, self.html(pictures).encode())
        for path in _pictures(output):
            path.unlink()
        paths = [_picture(output, name) for name in pictures]
        for path, content in zip(paths, pictures.values(), strict=True):
            _replace(path, content)
        return [output, *paths]

    def figures(self) -> dict[str, Figure]:
        """Those of PICTURES that there are facts for, by name."""
        found = {}
        shown = marks(self.runs, self.measured, self.teachers.values())
        runs = [mark.run for mark in shown]
        panels = plots.panels(runs, self.measured)
        if panels:
            sizes = {run.name: float(run.parameters) / 1e6 for run in runs}
            found["size"] = plots.against(shown, panels, sizes, "million parameters")
        if timed := plots.timed(runs, self.measured):
            form, milliseconds = timed
            among = [panel for panel in panels if len(panel.values.keys() & milliseconds.keys()) > 1]
            if among:
                found["latency"] = plots.against(shown, among, milliseconds, f"ms a call ({form})")
        if plots.drawn(runs):
            found["curves"] = plots.curves(shown)
        return found

    def html(self, pictures: Mapping[str, bytes]) -> str:
        """The page.

        Args:
            pictures: PNG files by name.
        """
        loader = FileSystemLoader(Path(__file__).parent)
        environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        runs, texts = self.runs, self.texts.values()
        trades, beside = trade.trades(runs, self.measured, self.teachers), trade.beside(runs, self.teachers)
        folders = [pair for text in texts for pair in zip(text.corpus.splits, text.manifests, strict=True)]
        return environment.get_template(TEMPLATE).render(
            generator=OURS,
            title=", ".join(run.name for run in runs),
            made=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            version=version("litebert"),
            lead=remarks.lead(runs, self.measured, trades),
            trade=tables.trade(trades),
            trade_notes=remarks.of_trades(runs, trades, self.measured),
            notes=remarks.notes(runs, self.measured),
            headline=tables.headline(runs, self.measured),
            tasks=tables.tasks(runs, self.measured, beside),
            task_notes=remarks.of_tasks(self.measured),
            products=tables.products(runs, self.measured),
            speeds=tables.speeds(runs, self.measured, beside),
            speed_notes=remarks.of_speeds(self.measured),
            picture_notes=remarks.of_pictures(runs, self.measured, marks(runs, self.measured, self.teachers.values())),
            cost=tables.cost(runs, self.texts),
            cost_notes=remarks.of_cost(runs, self.texts),
            data=[
                (split.location, *(of(manifest) for of in (tables.splits, tables.rejected, tables.sources)))
                for split, manifest in folders
            ],
            data_notes=self.missing,
            models=tables.models(runs),
            differing=tables.differing(runs),
            recipes=[(run.name, run.recipe.to_yaml()) for run in runs],
            identities=tables.identities(runs, {run.name: run.fingerprint for run in runs} if self.files else {}),
            sources=[*(str(run.path.absolute()) for run in runs), *(str(path.absolute()) for path in self.files)],
            pictures={name: _inline(png) for name, png in pictures.items()},
        )


def check(output: Path) -> None:
    """Changes nothing. Raises ValueError where a report cannot be written without losing something that is none."""
    if output.suffix != ".html":
        raise ValueError(f"{output}: a report is one .html file: give --output report.html")
    if output.is_dir():
        raise ValueError(f"{output} is a folder; give another --output")
    if output.exists():
        with output.open("rb") as page:
            if OURS.encode() not in page.read(1024):
                raise ValueError(f"{output} exists and is no report; give another --output")
    elif others := _pictures(output):
        raise ValueError(f"{others[0]} exists and is of no report; give another --output")


def _inline(png: bytes) -> dict[str, str | int]:
    """A picture in the page, and how wide it is meant to be, in pixels of CSS; its width stands in bytes 16 to 20."""
    width = int.from_bytes(png[16:20]) * plots.CSS_DPI // plots.DPI
    return {"address": f"data:image/png;base64,{base64.b64encode(png).decode()}", "width": width}


def _picture(output: Path, name: str) -> Path:
    return output.with_name(f"{output.stem}.{name}.png")


def _pictures(output: Path) -> list[Path]:
    return [path for name in PICTURES if (path := _picture(output, name)).exists()]


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(content)
    aside.replace(path)
