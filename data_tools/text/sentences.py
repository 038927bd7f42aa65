"""Where Chinese sentences begin, for many texts at once.

A sentence ends with 。！？；… (or a Latin stop before a space) and keeps the closing quotes and
brackets that follow; a line feed, where paragraphs are still apart, begins one. The rule looks at
characters only, so it runs as array operations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TERMINATORS = "。！？；…!?"
CLOSERS = "”’」』》〉）】〕］\"')]}~～"
_OTHER, _TERMINATOR, _CLOSER, _LATIN_STOP, _LINE_FEED = range(5)


def _kinds() -> npt.NDArray[np.uint8]:
    """What each code point of the basic plane is to a sentence; the last one stands for all above."""
    kinds = np.full(0x10000, _OTHER, np.uint8)
    for kind, characters in ((_TERMINATOR, TERMINATORS), (_CLOSER, CLOSERS), (_LATIN_STOP, "."), (_LINE_FEED, "\n")):
        kinds[[ord(character) for character in characters]] = kind
    return kinds


_KINDS = _kinds()


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The text's code points, uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def sentence_starts(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Whether a sentence begins at each character.

    Args:
        codes: code points of canonical text, uint32 [characters]; several texts may stand end to end, their own
            first characters are the caller's to mark.

    Returns:
        bool [characters]; the first is always True.
    """
    if not len(codes):
        return np.zeros(0, bool)
    kinds = _KINDS.take(codes, mode="clip")
    # All that matters happens at the few characters that are of a kind.
    places = np.flatnonzero(kinds)
    kinds, follows = kinds.take(places), codes.take(places + 1, mode="clip")
    # "3.14" and "www.a.cn" have stops that end nothing: a Latin stop counts only before a space.
    stop = (kinds == _LATIN_STOP) & ((follows == ord(" ")) | (follows == ord("\n")))
    terminator, closer = (kinds == _TERMINATOR) | stop, kinds == _CLOSER
    # A closer continues what stands right before it: look through closers to the last other character.
    touches = np.zeros(len(places), bool)
    touches[1:] = np.diff(places) == 1
    ended = terminator[np.maximum.accumulate(np.where(closer & touches, 0, np.arange(len(places))))]
    goes_on = np.zeros(len(places), bool)
    goes_on[:-1] = touches[1:] & (terminator | closer)[1:]
    starts = np.zeros(len(codes) + 1, bool)
    starts[places[ended & ~goes_on] + 1] = True
    starts[places[kinds == _LINE_FEED]] = True
    starts[0] = True
    return starts[:-1]
