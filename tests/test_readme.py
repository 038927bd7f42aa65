"""The README and its Chinese say the same: what is no prose is equal, section by section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from litebert.model import PRESETS, PretrainingModel

ROOT = Path(__file__).parents[1]
FILES = ("README.md", "README.zh-CN.md")
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in FILES)

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
CODE = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e-?\d+)?")
NAME = re.compile(r"[\w*-]+(?:/|\.(?:py|sh|yaml))[\w*./-]*")  # of a file or a folder
ITEM = re.compile(r"^(?:\* |\|)", re.MULTILINE)


def prose(section: str) -> str:
    return FENCED.sub("", section)


def links(section: str) -> Counter[str]:
    return Counter(link for link in LINK.findall(prose(section)) if link not in FILES)


def code(section: str) -> Counter[str]:
    return Counter(CODE.findall(prose(section)))


def numbers(section: str) -> Counter[str]:
    """Outside links and code, which are compared by themselves."""
    return Counter(NUMBER.findall(CODE.sub("", LINK.sub("]", prose(section)))))


def items(section: str) -> int:
    """Points of lists and rows of tables."""
    return len(ITEM.findall(prose(section)))


def sections(text: str) -> list[str]:
    begins = [match.start() for match in HEADING.finditer(FENCED.sub(lambda found: "`" * len(found[0]), text))]
    return [text[begin:end] for begin, end in zip(begins, [*begins[1:], len(text)], strict=True)]


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Language and lines of each fenced block: without comments, or the names alone where it lists files with words."""
    found = []
    for language, content in FENCED.findall(text):
        if content.startswith("data_tools/"):
            lines = [" ".join(NAME.findall(line)) for line in content.splitlines()]
        else:
            lines = [re.sub(r"\s+# .*", "", line) for line in content.splitlines()]
        found.append((language, lines))
    return found


def test_headings_are_of_the_same_levels() -> None:
    levels = [[len(HEADING.match(section)[1]) for section in sections(text)] for text in (ENGLISH, CHINESE)]  # type: ignore[index]
    assert levels[0] == levels[1] and len(levels[0]) > 3


def test_code_blocks_are_the_same_but_for_comments() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)
    assert any("launcher/pretrain.py" in line for _, lines in blocks(CHINESE) for line in lines)


@pytest.mark.parametrize("of", [links, code, numbers, items])
def test_what_is_no_prose_is_the_same(of: Callable[[str], object]) -> None:
    pairs = list(zip(sections(ENGLISH), sections(CHINESE), strict=True))
    for own, theirs in pairs:
        assert of(own) == of(theirs), own.splitlines()[0]
    assert any(of(own) for own, _ in pairs)


def test_each_links_to_the_other_and_to_files_that_are_there() -> None:
    for text, other in ((ENGLISH, FILES[1]), (CHINESE, FILES[0])):
        assert other in LINK.findall(text.partition("\n## ")[0][:200])
        assert not [link for link in LINK.findall(text) if "://" not in link and not (ROOT / link).exists()]


def test_presets_have_as_many_parameters_as_it_says() -> None:
    for name in ("bert-base", "distil-6", "albert-base"):
        with torch.device("meta"):
            count = PretrainingModel(PRESETS[name]).parameter_count()
        assert all(f"`{name}` {count / 1e6:.1f} M" in text for text in (ENGLISH, CHINESE)), count
