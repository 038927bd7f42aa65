"""Traditional characters become simplified ones, by OpenCC's phrase tables."""

from __future__ import annotations

import functools
import re

import opencc

_HAN = (range(0x3400, 0xA000), range(0xF900, 0xFB00))
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_JAPANESE = 0.1  # share of kana from which a line is not Chinese, and its characters are as they should be


@functools.cache
def _converter() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


@functools.cache
def _changes() -> dict[str, str]:
    """What OpenCC makes of single characters, where it changes them."""
    characters = [chr(code) for block in _HAN for code in block]
    converted = _converter().convert("\n".join(characters)).split("\n")
    return {old: new for old, new in zip(characters, converted, strict=True) if old != new}


@functools.cache
def _traditional() -> re.Pattern[str]:
    """A character that simplified text never has: OpenCC changes it to one of GB 2312, and GB 2312 lacks it.

    Those that simplified text has too (乾 in 乾隆, 徵 of the five notes) tell nothing by themselves; OpenCC decides on
    them by their phrase, in lines that are traditional for another reason. Rare characters in the names of simplified
    histories (磾, 墠), whose simplified forms hardly anyone writes, tell nothing either.
    """
    telling = (old for old, new in _changes().items() if _in_gb2312(new) and not _in_gb2312(old))
    return re.compile(f"[{''.join(telling)}]")


@functools.cache
def _back() -> dict[int, str]:
    """From simplified forms beyond the basic plane, which no vocabulary has, to the characters they stand for."""
    return {ord(new): old for old, new in _changes().items() if new > "\uffff" and len(new) == 1}


def _in_gb2312(text: str) -> bool:
    try:
        return bool(text.encode("gb2312"))
    except UnicodeEncodeError:
        return False


def simplify(text: str) -> str:
    """The text in simplified characters; lines without a traditional character, and Japanese ones, are left alone."""
    traditional = _traditional()
    first = traditional.search(text)
    if first is None:
        return text
    begin = text.rfind("\n", 0, first.start()) + 1
    lines = [_simplified(line) if traditional.search(line) else line for line in text[begin:].split("\n")]
    return text[:begin] + "\n".join(lines)


def _simplified(line: str) -> str:
    if len(_KANA.findall(line)) > _JAPANESE * len(line):
        return line
    converted = _converter().convert(line)
    return converted.translate(_back()) if max(converted) > "\uffff" else converted
