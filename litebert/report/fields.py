"""Objects of JSON files that somebody else wrote, read strictly: what is not as it should be is named by its field."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Interval = tuple[float, float]
Quartiles = tuple[float, float, float]
INFINITE = (-math.inf, math.inf)
SHARE = (0.0, 1.0)
ROUNDING = 1e-9  # that an interval of one point may be beside it


class Damage(ValueError):
    """What a field holds is not what it is for; names field and value."""


@dataclasses.dataclass(frozen=True)
class Fields:
    """An object, whose every reading raises Damage where there is no such field, or something else in it.

    Attributes:
        content: by name.
        place: of the object in its file; empty for the whole.
    """

    content: Mapping[str, Any]
    place: str = ""

    @classmethod
    def of(cls, path: Path) -> Fields:
        """The one object of a file. Raises ValueError where that is not what it holds."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"cannot be read as JSON ({error})") from None
        if not isinstance(content, dict):
            raise ValueError("not one object of JSON")
        return cls(content)

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def value(self, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        """Of some type."""
        found = self.content.get(name)
        if name not in self.content:
            raise Damage(f"{self._at(name)} is missing")
        if not isinstance(found, kind) or isinstance(found, bool):
            raise self._damage(name, wanted)
        return found

    def text(self, name: str) -> str:
        """That a page can show."""
        found: str = self.value(name, str, "text")
        try:
            found.encode()
        except UnicodeEncodeError:
            raise self._damage(name, "text in UTF-8") from None
        return found

    def inner(self, name: str) -> Fields:
        """An object in this one."""
        return Fields(self.value(name, dict, "an object"), self._at(name))

    def at(self, *names: str) -> Fields:
        """An object in objects."""
        found = self
        for name in names:
            found = found.inner(name)
        return found

    def objects(self, name: str) -> Iterator[Fields]:
        """Of a list."""
        for number, found in enumerate(self.value(name, list, "a list")):
            if not isinstance(found, dict):
                raise Damage(f"{self._at(name)}[{number}] is not an object")
            yield Fields(found, f"{self._at(name)}[{number}]")

    def texts(self, name: str) -> dict[str, str]:
        """An object of nothing but text."""
        inner = self.inner(name)
        return {key: inner.text(key) for key in inner.content}

    def listed(self, name: str) -> list[str]:
        """A list of nothing but text."""
        found = self.value(name, list, "a list")
        listed = Fields({str(place): each for place, each in enumerate(found)}, self._at(name))
        return [listed.text(place) for place in listed.content]

    def count(self, name: str, least: int = 0) -> int:
        """A whole number."""
        found: int = self.value(name, int, "a whole number")
        self._within(name, found, (least, math.inf))
        return found

    def number(self, name: str, bounds: Interval = INFINITE) -> float:
        """A finite one, between bounds."""
        found: float = self.value(name, (int, float), "a number")
        self._within(name, found, bounds)
        return found

    def numbers(self, name: str, count: int | None = None, bounds: Interval = INFINITE) -> tuple[float, ...]:
        """Finite ones between bounds, one at least, or so many."""
        found = self.value(name, list, "a list")
        if len(found) != count if count else not found:
            raise self._damage(name, f"{count} numbers" if count else "one number or more")
        listed = Fields({str(place): each for place, each in enumerate(found)}, self._at(name))
        return tuple(listed.number(place, bounds) for place in listed.content)

    def interval(self, name: str, around: float) -> Interval:
        """Of a number that lies in it."""
        low, high = self.numbers(name, 2)
        if not low - ROUNDING <= around <= high + ROUNDING:
            raise self._damage(name, f"an interval around {around:g}")
        return low, high

    def quartiles(self, name: str) -> Quartiles:
        """Above 0, in their order."""
        low, median, high = self.numbers(name, 3)
        if not 0 < low <= median <= high:
            raise self._damage(name, "three quartiles above 0, the lowest first")
        return low, median, high

    def null(self, name: str) -> bool:
        """Whether a field is there and empty."""
        return name in self.content and self.content[name] is None

    def _within(self, name: str, found: float, bounds: Interval) -> None:
        low, high = bounds
        try:
            sound = math.isfinite(found) and low <= found <= high
        except OverflowError:
            sound = False
        if not sound:
            least = f" of {low:g} or more" if math.isfinite(low) else ""
            raise self._damage(name, f"a finite number{least}" if math.isinf(high) else f"from {low:g} to {high:g}")

    def _damage(self, name: str, wanted: str) -> Damage:
        found = json.dumps(self.content[name])
        shown = found if len(found) <= 40 else f"{found[:37]}..."
        return Damage(f"{self._at(name)} is {shown}, and not {wanted}")

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name
