"""Markdown syntax leaves, its text stays."""

from __future__ import annotations

import re

# Signs that other text hardly has: "# " alone may be a comment, "**" a censored word, and both stay readable without.
_TRIGGER = re.compile(
    r"^#{1,6} +\S|\]\([^\s()\u2e80-\uffff]{0,300}[/#]|\]\([\w%-]+\.[a-z0-9]{2,5}\)|^[ >]{0,5}```|^\[[^\]\n]+\]:"
    r"|\*\*[^\s*]|^(?:={3,}|-{3,})$",
    re.M,
)
# Looking for a character is several times faster than looking for two.
_HINTS = (("]", "]("), ("]", "]:"), ("`", "```"), ("*", "**"), ("#", "\n#"), ("=", "\n==="))

_FENCE = re.compile(r"[ \t>]{0,12}(```+|~~~+)[^`\n]*")
_FRONT_MATTER = re.compile(r"---\n(?:[A-Za-z_][\w-]*:.*\n|[ \t-].*\n)+?---\n")
_SUMMARY = re.compile(r"^(?:summary|description|abstract):[ \t]*+(.*[\u4e00-\u9fff].*)", re.M)
_DEFINITION = re.compile(r" {0,3}\[(?!\^)[^\]\n]+\]:[ \t]*(?!\s|//)[\x21-\x7e].*")
_NOTE = re.compile(r" {0,3}\[\^[^\]\n]+\]:[ \t]*")
# Possessive ("++"), so that no line, however long, is read again and again.
_RULE = re.compile(r" {0,3}(?:=++[ \t]*+|(?:-[ \t]*+){2,}+|(?:\*[ \t]*+){3,}+|(?:_[ \t]*+){3,}+)$")
_CELL_RULE = r"[ \t]*+:?-++:?[ \t]*+"
_TABLE_RULE = re.compile(rf"[ \t]*+\|?{_CELL_RULE}(?:\|{_CELL_RULE})*+\|?[ \t]*+$")
_PREFIX = re.compile(r"(?:[ \t]*>[ \t]?)*[ \t]*(?:[-*+][ \t]+(?:\[[ xX]\][ \t]+)?)*(?:>[ \t]?)*(?:#{1,6}[ \t]+)?")
_MEANT = frozenset("[=-*_|:>+#")  # what a line that is more than text begins with
_INDENTS = frozenset(" \t\u3000")
_LOOKED_AT = _MEANT | _INDENTS
_HEADING = re.compile(r"#{2,6}(?=[^#\s])(?![^#\n]*#)")  # "##标题", the space forgotten; "#话题#" is none

_WORDS = r"(?:[^\[\]\n]|\[[^\[\]\n]*\])*"
# What stands in the brackets of a link leads somewhere: "[爱你](哈哈)" and "[泪](T.T)" do not.
_TARGET = (
    r"\([ \t]*(?=<|\)|[^\s)]{0,300}(?:[/#]|\.[A-Za-z0-9]{2,5}[)\s])|[a-z]{3,}:)"
    r"(?:<[^>\n]*>|(?:[^\s()（）]|\([^\s()]*\))*)(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'))?[ \t]*\)"
)
_REFERENCE = r"\[[A-Za-z0-9_.: -]{0,40}\]"
# Each alternative begins with a literal, so that the search leaps from mark to mark; what stands before is asked after.
_INLINE = re.compile(
    r"`(?P<ticks>`*)(?!`)(?P<code>[^\n]*?[^`\n])`(?P=ticks)(?!`)"
    rf"|!\[{_WORDS}\](?:{_TARGET}|{_REFERENCE})"
    rf"|\[(?P<linked>{_WORDS})\](?:{_TARGET}|{_REFERENCE})"
    r"|\[\^[^\]\n]{1,40}\]"
    r"|<(?P<address>(?:https?|ftp|mailto):[^\s<>]+)>"
    r"|\*\*(?P<strong>[^\s*](?:[^*\n]*[^\s*])?)\*\*"
    # Between Chinese characters a star is a mark; between letters, figures or signs it multiplies.
    r"|\*(?<![A-Za-z0-9*/)′]\*)(?P<emphasis>[^\s*/](?:[^*\n]*[^\s*/])?)\*(?![A-Za-z0-9*/(])"
    r"|_(?<!\w_)(?P<bar>_?)(?P<underlined>[^\s_](?:[^_\n]*[^\s_])?)_(?P=bar)(?!\w)"
    r"|~~(?P<deleted>[^~\n]+)~~"
    r"|\\(?P<escaped>[*_#`~>|\[\]])"
)
_CHINESE = re.compile("[\u2e80-\u9fff\uff00-\uffef]")


def strip_markdown(text: str) -> str:
    """The text of a markdown document: images, link targets and definitions go, as do the marks around what is kept.

    Code stays, line by line, without its fences. Text without markdown comes back as it is.
    """
    hinted = text.startswith(("#", "[", "---")) or any(sign in text and hint in text for sign, hint in _HINTS)
    if not hinted or not _TRIGGER.search(text):
        return text
    if text.startswith("---\n") and (front := _FRONT_MATTER.match(text)):
        text = "\n".join([*_SUMMARY.findall(front[0]), text[front.end() :]])
    parts: list[str] = []
    lines: list[str] = []
    fence = ""
    fenced = "```" in text or "~~~" in text
    for raw in text.split("\n"):
        mark = _FENCE.fullmatch(raw) if fenced and ("```" in raw or "~~~" in raw) else None
        if mark and (not fence or (mark[1].startswith(fence) and raw.strip(" \t>") == mark[1])):
            if lines:
                parts.append("\n".join(lines) if fence else _inline("\n".join(lines)))
            lines = []
            fence = "" if fence else mark[1]
        elif fence:
            lines.append(raw[1:].removeprefix(" ") if raw.startswith(">") else raw)
        elif raw[:1] not in _LOOKED_AT:
            lines.append(raw)
        elif (line := _line(raw)) is not None:
            lines.append(line)
    if lines:
        parts.append("\n".join(lines) if fence else _inline("\n".join(lines)))
    return "\n".join(parts)


def _line(line: str) -> str | None:
    """A line without the marks that say what it is, or None for one that is nothing but marks."""
    begin = line[:1]
    if begin in _INDENTS:
        begin = line.lstrip()[:1]
    if begin not in _MEANT:
        return line
    if begin == "[":
        return None if _DEFINITION.match(line) else _NOTE.sub("", line, count=1)
    if begin != ">" and (_RULE.match(line) or ("-" in line and _TABLE_RULE.match(line))):
        return None
    if begin == "|" and line.rstrip().endswith("|"):
        return " ".join(cell.strip() for cell in line.strip()[1:-1].split("|") if cell.strip())
    line = _PREFIX.sub("", line, count=1)
    if begin == "#":
        line = _HEADING.sub("", line, count=1).rstrip()
        title = line.rstrip("#")
        line = title.rstrip() if title.endswith((" ", "\t")) else line
    return line


def _inline(text: str) -> str:
    return _INLINE.sub(_kept, text)


def _kept(match: re.Match[str]) -> str:
    name = match.lastgroup
    if name is None:
        return ""
    kept: str = match[name]
    if name == "code":
        return kept.strip() or kept
    if name in ("address", "escaped"):
        return kept
    # Names and formulas have underscores for their own ends: `__init__`, `_i_`.
    if name == "underlined" and not _CHINESE.search(kept):
        return match[0]
    return _inline(kept)
