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
_LATIN_STOP = "."
_PLANE = 0x10000


def _table(characters: str) -> npt.NDArray[np.bool_]:
    table = np.zeros(_PLANE, bool)
    table[[ord(character) for character in characters]] = True
    return table


_TERMINATOR = _table(TERMINATORS)
_CLOSER = _table(CLOSERS)


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
    basic = np.where(codes < _PLANE, codes, 0)
    terminator, closer = _TERMINATOR[basic], _CLOSER[basic]
    # "3.14" and "www.a.cn" have stops that end nothing: a Latin stop counts only before a space.
    stop = codes == ord(_LATIN_STOP)
    stop[:-1] &= (codes[1:] == ord(" ")) | (codes[1:] == ord("\n"))
    terminator |= stop
    # A closer continues whatever stands before it: look through closers to the last other character.
    index = np.where(closer, 0, np.arange(len(codes)))
    ended = terminator[np.maximum.accumulate(index)]
    starts = np.ones(len(codes), bool)
    starts[1:] = ended[:-1] & ~terminator[1:] & ~closer[1:]
    return starts | (codes == ord("\n"))
