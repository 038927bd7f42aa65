"""HTML in text: whole pages, fragments, and what a careless extraction left behind.

Only names that HTML has count as tags, so ``a < b``, ``vector<int>`` and ``<name@host>`` stay.
"""

from __future__ import annotations

import html
import re

_BLOCKS = """
    address article aside blockquote body br center div dl dt fieldset figcaption figure footer form h1 h2
    h3 h4 h5 h6 head header hr html legend li main nav ol option p pre section select summary details table
    tbody tfoot thead title tr ul
""".split()  # noqa: SIM905
_CELLS = ["td", "th", "dd"]  # what they say belongs to the line before
_INLINE = """
    a abbr acronym b base bdi bdo big button canvas caption cite code col colgroup datalist del dfn em embed
    font frame frameset i iframe img input ins kbd label link map mark meta meter noframes noscript object
    optgroup output param picture progress q rb rp rt rtc ruby s samp script small source span strike strong
    style sub sup svg template textarea time track tt u var video audio wbr
""".split()  # noqa: SIM905
_BREAKS = dict.fromkeys(_BLOCKS, "\n") | dict.fromkeys(_CELLS, " ")
_NAMES = frozenset(_BLOCKS + _CELLS + _INLINE)

# Quoted values may hold ">". What is once read is never read another way ("++"), so that no text takes long.
_ATTRIBUTE = r"""\s++[^\s<>"'=/]++(?:\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'|[^\s<>"']++))?+"""
_TAG = re.compile(rf"<(/?)([A-Za-z][A-Za-z0-9]*+)(?:{_ATTRIBUTE})*+\s*+/?>")
# A document of another XML vocabulary (DocBook): every name is a tag, and entities are the vocabulary's own.
_XML_TAG = re.compile(rf"</?[A-Za-z][\w:.-]*+(?:{_ATTRIBUTE})*+\s*+/?>")
_XML_ENTITY = re.compile(r"&[A-Za-z][\w-]{0,60}\.[\w.-]{1,60};")
_XML = re.compile(r"<\?xml\b|\sxmlns[:=]")
# What an article quotes as code is its text: a whole alternative, so that no tag is found within.
_CODE_OR_TAG = re.compile(rf"```.*?```|`[^`\n]+`|{_TAG.pattern}", re.DOTALL)
# Begins with what stands there, so that the search leaps to it; what stands before is asked after.
_HIDDEN = re.compile(r"<(?<!`<)(?:(script|style|noscript|template|rp)\b|!--|!\[CDATA\[|!doctype|\?xml)", re.IGNORECASE)
_HIDDEN_ENDS = {"<!--": "-->", "<![cdata[": "]]>", "<!doctype": ">", "<?xml": ">"}
# A tag that an extraction cut in the middle: "<a class这几年", "<img data-rawwidth评论".
_CUT_TAG = re.compile(
    r"<(?:a|div|font|iframe|img|p|span)\s+(?:class|data-[a-z-]+|href|id|src|style|target)(?=[^\x00-\x7f]|$)", re.M
)
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_TRIGGER = re.compile(r"<[A-Za-z/!?]")
_PAGE = re.compile(r"<(?:html|body)[\s>]", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\xa0\u3000]+")

# Characters of the private use area stand for the ends of a link while a page is taken apart.
_LINK, _LINK_END = "\ue0f0", "\ue0f1"
_LINKED = re.compile(f"{_LINK}([^{_LINK}{_LINK_END}]*){_LINK_END}")
_LINK_MARKS = re.compile(f"[{_LINK}{_LINK_END}]")
_LABEL = re.compile(f"[^{_LINK}]{{1,12}}[:：]")
_EMPTY_LABEL = re.compile(r"[^:：。]{1,10}[:：]")
_MENU_SHARE, _MENU_LINE = 0.6, 200
_ROUNDS = 8
_HEAD = 2000


def strip_tags(text: str) -> str:
    """Text without tags, comments, scripts and entities; what stood in blocks stands on lines of its own."""
    # Twice escaped markup ("&amp;lt;p&amp;gt;") shows itself only after a round.
    for _ in range(_ROUNDS):
        before = text
        if "&" in text:
            text = _ENTITY.sub(lambda match: html.unescape(match[0]).replace("\xa0", " "), text)
        if "<" in text and _TRIGGER.search(text):
            # An article about HTML has <html> in it too, but does not begin with it.
            begin = text[:_HEAD].lstrip(" \t\n\ufeff")
            whole = begin.startswith("<")
            is_page, is_xml = whole and _PAGE.search(begin), whole and _XML.search(begin)
            text = _shown(text)
            if is_xml and not is_page:
                text = _XML_ENTITY.sub("", _XML_TAG.sub("", text))
            text = _page(text) if is_page else _fragment(text)
        if text == before:
            break
    return text


def _shown(text: str) -> str:
    """The text without comments, scripts and what else a browser does not show."""
    pieces, end = [], 0
    endless = set()
    for match in _HIDDEN.finditer(text):
        closing = _HIDDEN_ENDS.get(match[0].lower()) or rf"</{match[1]}\s*>"
        if match.start() < end or closing in endless:
            continue
        if match[1]:
            found = re.compile(closing, re.IGNORECASE).search(text, match.end())
            stop = found.end() if found else -1
        else:
            stop = text.find(closing, match.end())
            stop += len(closing) if stop >= 0 else 0
        if stop < 0:
            endless.add(closing)
            continue
        pieces.append(text[end : match.start()])
        end = stop
    return "".join([*pieces, text[end:]]) if end else text


def _fragment(text: str) -> str:
    return _CUT_TAG.sub("", (_CODE_OR_TAG if "`" in text else _TAG).sub(_replacement, text))


def _replacement(match: re.Match[str]) -> str:
    name = (match[2] or "").lower()
    if name not in _NAMES:
        return match[0]
    if match[1] and name in _CELLS:
        return ""
    # A gloss over its word is written behind it.
    return ("）" if match[1] else "（") if name == "rt" else _BREAKS.get(name, "")


def _page(text: str) -> str:
    """The text of a whole page: white space says nothing there, and lines of links are menus."""

    def replacement(match: re.Match[str]) -> str:
        name = match[2].lower()
        if name == "a":
            return _LINK_END if match[1] else _LINK
        # The term and what it is are one line.
        return " " if name == "dt" and match[1] else _replacement(match)

    text = _LINK_MARKS.sub("", text)
    pieces, end = [], 0
    for match in _TAG.finditer(text):
        pieces += [_SPACE.sub(" ", text[end : match.start()]), replacement(match)]
        end = match.end()
    lines = "".join([*pieces, _SPACE.sub(" ", text[end:])]).split("\n")
    kept = (_SPACE.sub(" ", _LINK_MARKS.sub("", line)).strip() for line in lines if not _is_menu(line))
    return "\n".join(line for line in kept if line and not _EMPTY_LABEL.fullmatch(line))


def _is_menu(line: str) -> bool:
    if _LINK not in line or len(line) > _MENU_LINE or _LABEL.match(line.strip()):
        return False
    linked = sum(len(link.strip()) for link in _LINKED.findall(line))
    return linked >= _MENU_SHARE * len(_LINK_MARKS.sub("", line).replace("|", "").replace(" ", ""))
