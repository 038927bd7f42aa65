"""How pictures show runs: which of them, in which colours, by which names, written with fonts that are there."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import cache

from matplotlib import font_manager

from litebert.report.results import Measured, comparable
from litebert.report.runs import Run, alike

MOST = 10  # runs of a picture; it has as many colours
LONGEST = 36  # of a name, in half-widths; Chinese characters have two
LATIN = "DejaVu Sans"  # comes with matplotlib
CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "STHeiti",
    "SimHei",
    "Noto Sans CJK JP",  # the only face of the collection that older versions of matplotlib see
    "Droid Sans Fallback",
    "Arial Unicode MS",
)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A run in a picture.

    Attributes:
        run: that it stands for.
        label: its name, or its row in the tables where that cannot be written.
        color: matplotlib's name of it.
    """

    run: Run
    label: str
    color: str


def marks(runs: Sequence[Run], measured: Mapping[str, Measured], teachers: Collection[str]) -> list[Mark]:
    """Of all runs in the order of the tables; of the teachers and the best others where there are more than MOST."""
    losses = ranks(runs, measured)
    order = sorted(
        range(len(runs)), key=lambda place: (runs[place].name not in teachers, losses.get(runs[place].name, math.inf))
    )
    return [
        Mark(runs[place], written(runs[place].name, f"row {place + 1}"), f"C{number}")
        for number, place in enumerate(sorted(order[:MOST]))
    ]


def ranks(runs: Sequence[Run], measured: Mapping[str, Measured]) -> dict[str, float]:
    """Held-out losses, by name, that say which run is best: given ones, else their own; none if they do not compare."""
    given = {run.name: its.mlm_loss for run in runs if (its := measured[run.name].heldout)}
    if given:
        return given if comparable(runs, measured) else {}
    return {run.name: run.heldout["heldout_mlm"] for run in runs if run.heldout} if alike(runs) else {}


def tasks_of(measured: Mapping[str, Measured]) -> list[str]:
    """Names of all tasks, in the order of the tables."""
    return list(dict.fromkeys(scores.task for its in measured.values() for scores in its.tasks))


def written(name: str, instead: str) -> str:
    """A name, if there are fonts for it and matplotlib takes it for text; its end, if it is long; or something instead.

    Args:
        instead: what it is known by on the page.
    """
    drawn = name.isprintable() and not name.startswith("_") and "$" not in name and set(name) <= characters()
    if not drawn:
        return instead
    if _width(name) <= LONGEST:
        return name
    places = range(len(name))
    end = next(place for place in places if _width(f"{instead}: …{name[place:]}") <= LONGEST)
    return f"{instead}: …{name[end:]}"


@cache
def families() -> list[str]:
    """Fonts to write with, the first that has a character: a Latin one, and a Chinese one if the machine has any."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return [LATIN, *[name for name in CHINESE if name in there][:1]]


@cache
def characters() -> frozenset[str]:
    """That these fonts have."""
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in families()]
    return frozenset(chr(code) for font in fonts for code in font.get_charmap())


def _width(name: str) -> int:
    """Of a text, in half-widths."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in name)
