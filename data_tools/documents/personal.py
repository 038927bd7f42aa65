"""What leads to a person becomes a placeholder: e-mail addresses, phone and identity numbers, @handles."""

from __future__ import annotations

import re

EMAIL, PHONE, IDENTITY, HANDLE = "[邮箱]", "[电话]", "[证件号]", "@用户"

# A run of digits as they may be grouped, long enough for the shortest phone number.
_DIGITS = re.compile(r"[+0-9(（][0-9 ()（）+-]{6,}+[Xx]?+")
_NUMBER = re.compile(
    r"(?<![0-9A-Za-z_./=&%#:-])"
    r"(?:(?P<identity>[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx])"
    r"|(?:\+?86[ -]?)?1[3-9][0-9](?P<gap>[ -]?)[0-9]{4}(?P=gap)[0-9]{4}"
    r"|[(（]?(?:010|02[0-9]|0[3-9][0-9]{2})[)）]?[ -]?[2-8][0-9]{6,7}"
    r"|[48]00[ -]?[0-9]{3}[ -]?[0-9]{4})(?![0-9A-Za-z_/=&%]|[.-][0-9A-Za-z])"
)
_ADDRESS = re.compile(
    r"(?<![\w.+/@-])[a-z0-9][\w.+-]{0,63}@(?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,12}(?![\w@])", re.A | re.I
)
_HOST = re.compile(r"@[A-Za-z0-9-]+\.")
# What code and style sheets begin with "@" is not a person; nor is the path of a package or of a profile's page, except
# where someone's words are passed on: "//@name: words". Handles may stand in a row.
_NAME = r"@[\w-]{2,16}(?![\w/-]|\.\w)"
_HANDLE = re.compile(
    r"@(?:(?<![A-Za-z0-9_./@=\\`]@)|(?<=/@)(?=[\w-]{2,16}[:：]))(?!"
    r"(?:app|article|book|catch|charset|class|classmethod|click|container|deprecated|end|"
    r"font|functools|implementation|import|include|inproceedings|interface|keyframes|media|misc|override|page|param|"
    r"pragma|property|protocol|pytest|return|selector|see|since|staticmethod|suppresswarnings|supports|test|throws|try)"
    rf"\b(?![-\u4e00-\u9fff])){_NAME[1:]}(?:{_NAME})*",
    re.IGNORECASE,
)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def replace_personal(text: str) -> str:
    """The text with a placeholder for every e-mail address, phone number, Chinese identity number and @handle."""
    text = _DIGITS.sub(_numbers, text)
    if "@" not in text:
        return text
    if _HOST.search(text):
        text = _ADDRESS.sub(EMAIL, text)
    return _HANDLE.sub(lambda match: HANDLE * match[0].count("@"), text)


def _numbers(run: re.Match[str]) -> str:
    begin, end = run.span()
    before, after = run.string[max(0, begin - 1) : begin], run.string[end : end + 2]
    replaced = _NUMBER.sub(_placeholder, before + run[0] + after)
    return replaced[len(before) : len(replaced) - len(after)]


def _placeholder(match: re.Match[str]) -> str:
    number = match["identity"]
    if number is None:
        return PHONE
    # GB 11643: the last place is a check, so a serial number of 18 digits is not taken for a person.
    check = "10X98765432"[sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS, strict=False)) % 11]
    return IDENTITY if number[-1].upper() == check else number
