r"""Manual pages: the text as ``man`` would show it, without its measures, macros and fonts.

What troff really prints depends on macros that a page may define itself. Here a request with a lower-case name is an
instruction and goes, one with an upper-case name is a macro of man or mdoc, and its words are text.
"""

from __future__ import annotations

import re

_TRIGGER = re.compile(r"^[.'](?:TH|SH|SS|Sh|Dd|PP|TP|IP|fi|nf)\b", re.M)
_COMMENT = re.compile(r"\\[\"#].*")
_REQUEST = re.compile(r"[.'][ \t]*(\S*?)(?:(?=\\)|[ \t]+|$)(.*)")
_BREAKS = frozenset("PP P LP IP TP TQ HP Pp SS Sh SH Ss sp br Bl It El Bd Ed Sp nf fi TS TE RS RE".split())  # noqa: SIM905
_HEADINGS = frozenset(["SH", "SS", "Sh", "Ss"])
_SILENT = frozenset(
    "TH Dd Dt Os PD RS RE IX UE UR MT ME Ed El Bl Bd Sp AT UC AP AS BS BE CS CE VS VE DS DE Vb Ve TS TE".split()  # noqa: SIM905
)
_UNFILLED = frozenset(["nf", "Vb", "CS", "TS"])
_FILLED = frozenset(["fi", "Ve", "CE", "TE"])
_JOINED = frozenset(["BR", "RB", "IR", "RI", "BI", "IB"])
_BLOCKS = {"de": "..", "de1": "..", "am": "..", "ig": "..", "EQ": ".EN", "PS": ".PE"}
_NAMED = {
    "aq": "'", "dq": '"', "cq": "'", "oq": "‘", "lq": "“", "rq": "”", "em": "—", "en": "–", "hy": "-", "mi": "-",
    "bu": "•", "co": "©", "rg": "®", "tm": "™", "ha": "^", "ti": "~", "rs": "\\", "ga": "`", "aa": "´", "mu": "×",
    "+-": "±", "<=": "≤", ">=": "≥", "->": "→", "<-": "←", "de": "°", "R": "®", "Tm": "™", "L\"": '"', "R\"": '"',
    "C+": "C++", "C`": "", "C'": "", "--": "—", "PI": "π",
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:"
    r"f(?:\[[^\]]*\]|\(..|.)|s[-+]?(?:\d+|\[[^\]]*\]|\(\d\d)|[mFRMYkn](?:\[[^\]]*\]|\(..|[-+]?.)"
    r"|[hvwblLDoXSHxZNBA]'[^']*'"
    r"|(?P<named>\*?(?:\[[^\]]*\]|\(..)|\*.)"
    r"|(?P<one>.|$))"
)
_ONE = {
    "-": "-",
    "e": "\\",
    "\\": "\\",
    " ": " ",
    "~": " ",
    "0": " ",
    "t": "\t",
    "'": "´",
    "`": "`",
    ".": ".",
    "E": "\\",
}
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|(\S+)')
_WIDE = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")


def strip_roff(text: str) -> str:
    """A manual page as its text; text without roff requests comes back as it is."""
    # A manual page without a single escape is hardly one.
    return plain(text) if ("\\" in text or text.startswith(".")) and _TRIGGER.search(text) else text


def plain(page: str) -> str:
    """The paragraphs of a page, a line each; lines that are to stay as they stand (.nf) do."""
    paragraphs: list[list[str]] = [[]]
    filled, until, depth, tag, layout = True, "", 0, False, False
    for line in page.splitlines():
        if until:
            until = "" if line.rstrip() == until else until
            continue
        if layout:  # of a table: its rows, which are text, begin after the line that ends with a stop
            layout = not line.rstrip().endswith(".") and line.rstrip() != ".TE"
            continue
        line = _COMMENT.sub("", line)
        if depth or re.match(r"[.'][ \t]*(?:if|ie|el|while)\b", line):
            depth = max(0, depth + line.count(r"\{") - line.count(r"\}"))
            continue
        request = _REQUEST.match(line)
        name, text = (request[1], request[2]) if request else ("", line)
        if name in _BLOCKS:
            until = _BLOCKS[name]
            continue
        layout = name == "TS"
        filled = filled if name not in _UNFILLED | _FILLED else name in _FILLED
        if request:
            text = _words(name, text)
        if name in _BREAKS or not filled or not line.strip():
            paragraphs.append([])
        _join(paragraphs[-1], _unescaped(text).strip())
        if name in _HEADINGS or name == "IP" or (tag and paragraphs[-1]):
            paragraphs.append([])
            tag = False
        tag = tag or name in ("TP", "TQ")
    return "\n".join("".join(parts) for parts in paragraphs if parts)


def _words(name: str, text: str) -> str:
    """What a request has to say."""
    if not name[:1].isupper() or name in _SILENT:
        return ""
    words = [(quoted.replace('""', '"') or bare) for quoted, bare in _ARGUMENT.findall(text)]
    if name == "IP":
        words = words[:1]
    elif name in ("TP", "TQ", "HP", "PP", "LP", "P"):
        words = []
    return ("" if name in _JOINED else " ").join(words)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    if (one := escape["one"]) is not None:
        return _ONE.get(one, "")
    if (named := escape["named"]) is None:
        return ""
    name = named.lstrip("*").strip("[(]")
    if code := re.fullmatch(r"u([0-9A-Fa-f]{4,5})", name):
        return chr(int(code[1], 16)).encode("utf-8", "replace").decode()
    return _NAMED.get(name, "")


def _join(parts: list[str], line: str) -> None:
    """Add a line to a paragraph: after a space between words, none where either side is a Chinese character."""
    if not line:
        return
    if parts and not _WIDE.match(parts[-1][-1]) and not _WIDE.match(line[0]):
        parts.append(" ")
    parts.append(line)
