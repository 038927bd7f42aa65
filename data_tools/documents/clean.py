"""What is not text leaves a document: markup, page furniture, hard line ends, people's data, traditional forms.

Each step is a switch. A step first looks for what it works on, with a search that costs next to nothing, so a
clean document passes through at the speed of a few substring searches. What single characters are made of
(compatibility forms, control and zero-width characters) is the business of ``data_tools.text.normalization``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

from data_tools.documents.boilerplate import drop_furniture
from data_tools.documents.line_wraps import join_wrapped_lines
from data_tools.documents.markdown import strip_markdown
from data_tools.documents.personal import replace_personal
from data_tools.documents.roff import strip_roff
from data_tools.documents.tags import strip_tags
from data_tools.documents.traditional import simplify

_PLAIN_MARKS = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "–": "-", "―": "-", "‐": "-", "‑": "-", "…": "..."}
)


@dataclasses.dataclass(frozen=True)
class CleanConfig:
    """Which cleaning steps a document goes through.

    Attributes:
        html: tags, comments, scripts and entities go; blocks become lines; the menus of whole pages go.
        roff: manual page requests and escapes go; their filled lines become paragraphs.
        markdown: headings, links, emphasis, lists, quotes, fences and tables keep their text and lose their marks.
        wraps: lines that were broken at a constant width are joined.
        simplify: traditional characters become simplified ones (OpenCC t2s), in lines that hold any.
        personal: e-mails, phone and identity numbers and @handles become placeholders.
        boilerplate: lines that belong to the page, not to the text, go: menus, copyright, share buttons.
        marks: "plain" writes quotes, dashes and the ellipsis in ASCII, for vocabularies without “ ” ‘ ’ — – … (Google's
            Chinese one of 21128 has none of them); "keep" leaves them.
    """

    html: bool = True
    roff: bool = True
    markdown: bool = True
    wraps: bool = True
    boilerplate: bool = True
    simplify: bool = True
    personal: bool = True
    marks: Literal["keep", "plain"] = "keep"


def plain_marks(text: str) -> str:
    """Text whose quotes, dashes and ellipses are those that every vocabulary has."""
    return text.translate(_PLAIN_MARKS)


# Tags first: they wrap all else. Personal data after the markup, which holds much that looks like it; and page
# furniture last, when its lines stand alone.
STEPS: dict[str, Callable[[str], str]] = {
    "html": strip_tags,
    "roff": strip_roff,
    "markdown": strip_markdown,
    "wraps": join_wrapped_lines,
    "simplify": simplify,
    "personal": replace_personal,
    "boilerplate": drop_furniture,
    "marks": plain_marks,
}


def clean(text: str, config: CleanConfig) -> str:
    """The text of a document after the steps that are switched on, in order."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for step in _steps(config):
        text = step(text)
    return text


@functools.cache
def _steps(config: CleanConfig) -> list[Callable[[str], str]]:
    return [step for name, step in STEPS.items() if getattr(config, name) in (True, "plain")]
