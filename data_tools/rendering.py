"""An inspected sample as text: coloured for a terminal, with plain marks for everything else."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.inspection import Inspected, Token
from data_tools.text.interface import SPECIAL_TOKENS, Vocabulary

_ORDERS = {0: "B follows A in the document", -1: "no pair"}
_CHANGED = {"sop": "swapped: B comes before A in the document", "nsp": "B is of another document"}
_UNDERLINED, _MASKED, _STAND_IN, _ORIGINAL, _KEPT, _SPECIAL, _HEAD, _OFF = (
    4,
    "1;97;41",
    "30;43",
    "2;9",
    "30;42",
    35,
    1,
    0,
)


class Renderer:
    """Renders samples of one tokenizer.

    Args:
        pieces: of the tokenizer, by id.
        vocabulary: its special ids.
        colour: whether a terminal's colours are used.
        objective: what the pairs are for, ``sop`` or ``nsp``: what it means that they are changed.
    """

    def __init__(self, pieces: Sequence[str], vocabulary: Vocabulary, colour: bool, objective: str = "sop") -> None:
        self._orders = {**_ORDERS, 1: _CHANGED.get(objective, "")}
        self._pieces, self._mask, self._colour = pieces, vocabulary.mask, colour

    @property
    def legend(self) -> str:
        """What the marks mean."""
        if not self._colour:
            return (
                "# marks: word|word, {token→[MASK]} masked, {token→other} a random token in its place,"
                " {token=} to be predicted but left as it is"
            )
        every_other = self._styled("every", False) + self._styled("other", True)
        masked, kept = self._styled("masked", False, _MASKED), self._styled("kept", False, _KEPT)
        random = self._styled("stand-in", False, _STAND_IN) + self._styled("original", False, _ORIGINAL)
        return f"{every_other} word underlined · {masked} shows [MASK] · {random} at random · {kept} as it is"

    def sample(self, sample: Inspected) -> str:
        """Where the sample is from, and its segments, a line each."""
        lines = [self._head(sample)]
        for name, tokens in zip("AB", sample.segments, strict=False):
            lines.append(f"{self._styled(name, False, _HEAD)}  {self._segment(tokens)}")
        return "\n".join(lines)

    def _head(self, sample: Inspected) -> str:
        masked = sum(token.shown is not None for token in sample.tokens)
        total = len(sample.tokens)
        where = f"shard={sample.shard} block={sample.block} row={sample.row}"
        what = f"document={sample.document:016x} number={sample.number} source={sample.source}"
        size = f"tokens={total} masked={masked} ({100 * masked / max(total, 1):.1f} %)"
        return self._styled(
            f"# {where} {what} {size} order={sample.order} ({self._orders[sample.order]})", False, _HEAD
        )

    def _segment(self, tokens: Sequence[Token]) -> str:
        parts = []
        underlined = False
        for place, token in enumerate(tokens):
            if token.begins_word and place:
                underlined = not underlined
                parts.append("" if self._colour else "|")
            parts.append(self._token(token, underlined))
        return "".join(parts)

    def _token(self, token: Token, underlined: bool) -> str:
        text = self._text(token.id)
        if token.shown is None:
            return self._styled(text, underlined, _SPECIAL if text in SPECIAL_TOKENS else "")
        if token.shown == self._mask:
            return self._styled(text, underlined, _MASKED) if self._colour else f"{{{text}→[MASK]}}"
        if token.shown == token.id:
            return self._styled(text, underlined, _KEPT) if self._colour else f"{{{text}=}}"
        shown = self._text(token.shown)
        if not self._colour:
            return f"{{{text}→{shown}}}"
        return self._styled(shown, underlined, _STAND_IN) + self._styled(text, underlined, _ORIGINAL)

    def _text(self, id: int) -> str:
        """A piece as it reads: SentencePiece's spaces as spaces, WordPiece's mark of a word's inside dropped."""
        return self._pieces[id].replace("▁", " ").removeprefix("##")

    def _styled(self, text: str, underlined: bool, style: int | str = "") -> str:
        codes = ";".join(str(code) for code in (style, _UNDERLINED if underlined else "") if code != "")
        return f"\x1b[{codes}m{text}\x1b[{_OFF}m" if self._colour and codes else text
