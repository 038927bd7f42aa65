"""Teachers that answer over the network, as their students see them: found, asked, and another asked when one fails.

A block's answers are the same whoever gives them, so a teacher may come, leave or die at any time; a student waits
while there is none, says so, and gives up after a limit. Students ask the same teacher for the same block as long as
it has not more to do than the others (Thaler and Ravishankar 1998, rendezvous hashing), so that it answers once.
"""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy.typing as npt
import torch

from litebert.data.split import Split
from litebert.distill import addresses, head, sidecar
from litebert.distill.addresses import Address
from litebert.distill.codecs import Codec, TeacherHead, codec_of
from litebert.distill.message import Asked
from litebert.distill.remote import Lost, RemoteTeacher, Suits, Watch
from litebert.distill.sidecar import Taught

T = TypeVar("T")

_LOOK_EVERY = 1.0  # seconds between two looks at who is there
_TRY_EVERY = 0.1  # seconds between two looks at whether somebody can be asked
_OTHERS_WAIT = 5.0  # seconds for others to say what they answer, once one has
_SAY_EVERY = 30.0  # seconds between two lines that a student waits
_LEAD = 2  # blocks that a teacher may have to answer more than the one with the fewest
_HELD = 128  # blocks that were fetched ahead: two windows


class _OutOfPatience(ValueError):
    """Nobody answered in time."""


class Fleet:
    """All teachers that can be found."""

    def __init__(
        self,
        places: Sequence[str],
        token: str = "",
        roots: str = "",
        patience: float = 600.0,
        say: Callable[[str], object] = print,
    ) -> None:
        """Args:
        places: folders that teachers announce themselves in, single files of them, or URIs.
        token, roots: of the URIs, as ``Address`` has them.
        patience: seconds in which nobody answers anything, before that is an error.
        say: told what a person may want to know, now and then.

        Raises ValueError where a place is none of these.
        """
        addresses.check(places)
        self._places, self._token, self._roots = tuple(places), token, roots
        self._patience, self._say = patience, say
        self._teachers: dict[Address, RemoteTeacher] = {}
        self._unread: list[str] = []
        self._lock = threading.Lock()
        self._looked = -_LOOK_EVERY
        self._answered = self._said = time.monotonic()

    def __str__(self) -> str:
        """Where it is."""
        return ", ".join(self._places)

    def taught(self, split: Split) -> Taught:
        """What those who answer a split answer, when one is found.

        Raises ValueError where they do not agree, or none is found in time.
        """

        def suits(taught: Taught) -> bool:
            return taught.content.get(split.name) == split.content

        def told(teacher: RemoteTeacher, watch: Watch) -> Taught:
            if (taught := teacher.taught) is None:
                raise Lost("it failed just now")
            return taught

        first = self._patiently(f"{split.location}, {split.name}", suits, told)
        others, begun = self._sought(suits), time.monotonic()
        while any(not (each.taught or each.fault) for each in others) and time.monotonic() - begun < _OTHERS_WAIT:
            time.sleep(_TRY_EVERY)
        for teacher in others:
            other = teacher.taught
            if other and suits(other) and other.answered != first.answered:
                raise ValueError(f"{teacher.address.uri} answers as {other}, another as {first}: stop one of them")
        return first

    def head(self, taught: Taught) -> bytes:
        """The masked-word head of who answers so. Raises ValueError as ``answers``."""
        return self._patiently("the head", _as(taught.answered), RemoteTeacher.head)

    def answers(self, asked: Asked, masked: int) -> dict[str, npt.NDArray]:
        """To a block of so many masked tokens: columns [masked, ...] by name.

        Raises ValueError where nobody gave them in time.
        """
        return self._patiently(
            str(asked), _as(asked.of), lambda teacher, watch: teacher.answers(asked, masked, watch), key=asked.packed()
        )

    def busy(self) -> float | None:
        """The mean share of time that teachers thought between the two calls before this one; None where none was
        heard. Returns at once."""
        shares = [share for teacher in self._teachers.values() if (share := teacher.busy()) is not None]
        return statistics.fmean(shares) if shares else None

    def _patiently(self, what: str, suits: Suits, ask: Callable[[RemoteTeacher, Watch], T], key: bytes = b"") -> T:
        """What one of those who suit says, as soon as one can be asked."""
        begun = time.monotonic()

        def watch() -> None:
            waited = time.monotonic() - max(begun, self._answered)
            if waited > self._patience:
                raise _OutOfPatience(
                    f"no teacher answered {what} in {waited:.0f} s: {self._faults(suits)}: start one with "
                    "launcher/teach.py --serve, or raise distill.patience; the run goes on from its last checkpoint"
                )
            self._tell(f"waiting for {what} for {waited:.0f} s: {self._faults(suits)}", waited)

        while True:
            if (teacher := self._next(suits, key)) is None:
                watch()
                time.sleep(_TRY_EVERY)
                continue
            try:
                said = ask(teacher, watch)
                self._answered = time.monotonic()
                return said
            except _OutOfPatience:
                raise
            except (OSError, ValueError) as error:
                teacher.rest(error)
            finally:
                with self._lock:
                    teacher.asked -= 1

    def _next(self, suits: Suits, key: bytes) -> RemoteTeacher | None:
        """Whom to ask now, who is counted as asked; None where nobody can be."""
        present = self._sought(suits)
        with self._lock:
            able = [teacher for teacher in present if teacher.can_be_asked(suits)]
            fewest = min((teacher.asked for teacher in able), default=0)
            able = [teacher for teacher in able if teacher.asked <= fewest + _LEAD]
            ranks = (hashlib.sha256(teacher.address.uri.encode() + key).digest() for teacher in able)
            first = max(zip(ranks, able, strict=True), key=lambda pair: pair[0], default=(b"", None))[1]
            if first is not None:
                first.asked += 1
            return first

    def _sought(self, suits: Suits) -> list[RemoteTeacher]:
        """Who is there, each being met where that is due."""
        present = self._present()
        for teacher in present:
            teacher.seek(suits)
        return present

    def _present(self) -> list[RemoteTeacher]:
        with self._lock:
            if time.monotonic() - self._looked > _LOOK_EVERY:
                now = addresses.found(self._places, self._token, self._roots)
                self._teachers = {each: self._teachers.get(each) or RemoteTeacher(each) for each in now.addresses}
                self._unread, self._looked = now.faults, time.monotonic()
            return list(self._teachers.values())

    def _tell(self, line: str, waited: float) -> None:
        with self._lock:
            if waited < _SAY_EVERY or time.monotonic() - self._said < _SAY_EVERY:
                return
            self._said = time.monotonic()
        self._say(line)

    def _faults(self, suits: Suits) -> str:
        """Why nobody answers."""
        told = [teacher.why_not(suits) for teacher in self._present()] or [f"no teacher at {self}"]
        return "; ".join([*told, *self._unread])


class FleetFolder:
    """What a fleet says of one folder of shards, as ``SoftFolder`` has what was stored.

    Attributes:
        location: where the fleet is.
        taught: what the answers are of.
        codec: that they come in.
    """

    def __init__(self, fleet: Fleet, split: Split) -> None:
        """``split``: one of the folder. Raises ValueError as ``Fleet.taught``."""
        self.location, self._fleet = str(fleet), fleet
        self.taught = fleet.taught(split)
        self.codec: Codec = codec_of(self.taught.codec, self.taught.model)

    def head(self, device: torch.device, dtype: torch.dtype) -> TeacherHead | None:
        """The teacher's, where the codec needs it. Raises ValueError where it is not the one that answers."""
        if not self.codec.needs_head:
            return None
        content = self._fleet.head(self.taught)
        if sidecar.sha256(content) != self.taught.head:
            raise ValueError(f"{self.location}: the head that was sent is not that of the teacher: start it again")
        return head.unpack(content, self.taught.model, device, dtype)

    def beside(self, split: Split) -> Split:
        """The split, read with the soft targets of its masked tokens.

        Raises ValueError where they are of other data or other masks.
        """
        if self.taught.content.get(split.name) != split.content:
            raise ValueError(f"{self.location} answers other {split.name} samples or masks than {split.location}'s")
        return split.reading(_Rows(self._fleet, self.taught.answered, split))

    def check_copies(self, split: Split, epochs: int) -> None:
        """Every copy is answered that there is."""


class _Rows:
    """A split's, by block and copy: what ``Split.reading`` takes."""

    remote = True  # so that several are asked for at once, and the next window's ahead of their time

    def __init__(self, fleet: Fleet, of: str, split: Split) -> None:
        self._fleet, self._of, self._split = fleet, of, split
        self._lock = threading.Lock()
        self._ahead: OrderedDict[Asked, Future[dict[str, npt.NDArray]]] = OrderedDict()

    def rows(self, block: int, copy: int) -> dict[str, npt.NDArray]:
        asked = Asked(self._of, self._split.name, block, copy)
        with self._lock:
            future = self._ahead.pop(asked, None)
        return future.result() if future else self._fleet.answers(asked, self._split.masked(block, copy))

    def check(self, block: int, copy: int) -> None:
        """Asks for it ahead of its time."""
        asked, future = Asked(self._of, self._split.name, block, copy), Future[dict[str, npt.NDArray]]()
        with self._lock:
            if asked in self._ahead:
                return
            self._ahead[asked] = future
            while len(self._ahead) > _HELD:
                self._ahead.popitem(last=False)
        try:
            future.set_result(self._fleet.answers(asked, self._split.masked(block, copy)))
        except Exception as error:
            with self._lock:  # whoever wants it later asks anew
                self._ahead.pop(asked, None)
            future.set_exception(error)


def _as(answered: str) -> Suits:
    """Whether they answer so."""
    return lambda taught: taught.answered == answered
