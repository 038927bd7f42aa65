"""Manual pages: roff requests and escapes leave, filled lines become paragraphs again."""

from __future__ import annotations

import re

from data_tools.documents.line_wraps import joined

_TRIGGER = re.compile(r"^[.'](?:TH|SH|SS|Sh|Dd|PP|TP|IP|fi|nf)\b", re.M)
_FONTS = re.compile(r"\\f(?:\[[^\]\n]*\]|\([A-Za-z]{2}|.)|\\s[-+]?\d{1,2}|\\[&|^/,%c:]|\\$", re.M)
_GLYPHS = re.compile(r"\\\((\w\w|[^\w\s]{2})|\\\[([\w-]+)\]|\\\*(?:\((..)|\[([\w-]+)\]|(.))")
_SPELLED = {
    "bu": "•", "co": "©", "rg": "®", "em": "—", "en": "–", "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "aq": "'",
    "dq": '"', "hy": "-", "mi": "-", "mu": "×", "->": "→", "<-": "←", "ti": "~", "ha": "^", "rs": "\\", "tm": "™",
    "L": "“", "R": "”", ">=": "≥", "<=": "≤", "!=": "≠", "+-": "±", "bv": "|", "or": "|", "de": "°",
}  # fmt: skip
_REQUEST = re.compile(r"[.'][ \t]*([A-Za-z]{1,4}|\\\"|\\\}|\.)?[ \t]*(.*)")
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|(\S+)')

_SPACED = {"B", "I", "SM", "SB", "Nm", "Fl", "Ar", "Op", "Pa", "Xr", "Em", "Sy", "Li", "Cm", "Va", "Ev", "An", "Nd"}
_ALTERNATING = {"BR", "RB", "BI", "IB", "IR", "RI"}
_HEADINGS = {"SH", "SS", "Sh", "Ss"}
_LABELS = {"IP", "It", "UR"}
_BREAKS = {"PP", "P", "LP", "TP", "TQ", "HP", "br", "sp", "Pp", "RS", "RE", "nf", "fi", "EX", "EE", "Bl", "El", "UE"}


def strip_roff(text: str) -> str:
    """A manual page as its text: a line for each paragraph, heading or line that roff would not fill.

    Text without roff requests comes back as it is.
    """
    # A manual page without a single escape is hardly one.
    if not ("\\" in text or text.startswith(".")) or not _TRIGGER.search(text):
        return text
    lines: list[str] = []
    paragraph = ""
    filled, defining, labelled = True, False, False
    for raw in text.split("\n"):
        defining = defining or raw.startswith((".de", ".ig", ".am"))
        if defining:
            defining = not raw.startswith("..")
            continue
        name, written = _line(raw)
        if name in _HEADINGS or name in _LABELS or name in _BREAKS or not written or not filled:
            if paragraph:
                lines.append(paragraph)
            paragraph = ""
        if name in ("nf", "EX", "fi", "EE"):
            filled = name in ("fi", "EE")
        elif name in _HEADINGS or name in _LABELS or not filled:
            lines += [written] if written else []
        elif labelled and written:
            lines.append(written)
        elif written:
            paragraph = joined(paragraph, written) if paragraph else written
        # The line after .TP is what the paragraph explains.
        labelled = name in ("TP", "TQ") or (labelled and not written)
    return "\n".join([*lines, paragraph] if paragraph else lines)


def _line(raw: str) -> tuple[str, str]:
    """The request of a line, or nothing, and the text that it leaves on the page."""
    if not raw.startswith((".", "'")):
        return "", _unescaped(raw.split('\\"', 1)[0] if '\\"' in raw else raw).strip()
    match = _REQUEST.match(raw)
    name, rest = (match[1] or "", match[2]) if match else ("", "")
    if rest and '\\"' in rest:
        rest = rest.split('\\"', 1)[0]
    if name in _SPACED or name in _HEADINGS or name in _LABELS:
        arguments = _arguments(rest)
        if name == "IP":
            arguments = arguments[:1]
        return name, _unescaped(" ".join(arguments)).strip()
    if name in _ALTERNATING:
        return name, _unescaped("".join(_arguments(rest))).strip()
    # An unknown request (.TH, .ft, .ad, .if) is about the page; one with Chinese text in it is a line that begins so.
    written = not name and match is not None and any(character > "\u2e7f" for character in rest)
    return name, _unescaped(raw).strip() if written else ""


def _arguments(rest: str) -> list[str]:
    return [quoted.replace('""', '"') or bare for quoted, bare in _ARGUMENT.findall(rest.replace("\\ ", "\xa0"))]


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    text = _FONTS.sub("", text)
    text = _GLYPHS.sub(lambda match: _SPELLED.get(next(group for group in match.groups() if group), ""), text)
    text = text.replace("\\-", "-").replace("\\ ", " ").replace("\\~", " ").replace("\\0", " ")
    return text.replace("\\'", "'").replace("\\`", "`").replace("\\.", ".").replace("\\e", "\\").replace("\\\\", "\\")
