"""Teachers that answer over the network, as their students see them: found, asked, and another asked when one fails.

A block's answers are the same whoever gives them, so a teacher may come, leave or die at any time; a student waits
while there is none, says so, and gives up after a limit. Students ask the same teacher for the same block as long as
it has not more to do than the others (Thaler and Ravishankar 1998, rendezvous hashing), so that it answers once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy.typing as npt
import pyarrow as pa
import pyarrow.flight as flight
import torch

from litebert.data.split import Split
from litebert.distill import addresses, head, sidecar
from litebert.distill.addresses import Address
from litebert.distill.codecs import Codec, TeacherHead, codec_of
from litebert.distill.message import Asked, are_whole, unpack
from litebert.distill.service import HEAD, PULSE, TAUGHT
from litebert.distill.sidecar import Taught

T = TypeVar("T")

SILENCE = 15 * PULSE  # seconds after which a teacher that says nothing is taken for gone
_LONGEST = 3600.0  # seconds of a call; it ends threads that were left behind
_LOOK_EVERY = 1.0  # seconds between two looks at who is there
_TRY_EVERY = 0.1  # seconds between two looks at whether somebody can be asked
_SAY_EVERY = 30.0  # seconds between two lines that a student waits
_MEET_EVERY = 10.0  # seconds after which one that answers something else is asked again what it answers
_RESTS = (0.25, 8.0)  # seconds that a teacher is left alone after a failure, doubled each time up to the second
_LEAD = 2  # blocks that a teacher may have to answer more than the one with the fewest
_HELD = 128  # blocks that were fetched ahead: two windows

Suits = Callable[[Taught], bool]


class _Lost(OSError):
    """A teacher cannot be reached."""


class _OutOfPatience(ValueError):
    """Nobody answered in time."""


class _Teacher:
    """One of a fleet. What its calls raise is OSError or ValueError, and what ``watch`` raises, which is called
    every second while one lasts."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.asked = 0
        self.fault = ""
        self._taught: Taught | None = None
        self._met = self._rested = self._until = 0.0
        self._lock = threading.Lock()
        self._client: flight.FlightClient | None = None

    def can_be_asked(self, suits: Suits) -> bool:
        """Whether it may answer, as far as is known. One that failed, or was not heard yet, is asked one thing at a
        time: it may keep whoever asks waiting."""
        taught = self._taught  # read once: another thread's rest() may forget it meanwhile
        if time.monotonic() < self._until or (self.asked and (self.fault or taught is None)):
            return False
        return taught is None or suits(taught) or time.monotonic() - self._met > _MEET_EVERY

    def why_not(self, suits: Suits) -> str:
        """Why it does not answer."""
        taught = self._taught
        if taught is not None and not suits(taught):
            return f"{self.address.uri}: it answers other samples or masks, or as another teacher, or in another codec"
        return f"{self.address.uri}: {self.fault or 'at work'}"

    def rest(self, fault: Exception) -> None:
        """After a failure."""
        self.fault, self._taught = str(fault), None  # another may stand there soon
        if time.monotonic() >= self._until:
            least, most = _RESTS
            self._rested = min(most, max(least, 2 * self._rested))
            self._until = time.monotonic() + self._rested
        if isinstance(fault, _Lost):  # the next time on another connection: a broken one may look alive for long
            with self._lock:
                client, self._client = self._client, None
            if client is not None:
                threading.Thread(target=client.close, daemon=True).start()  # it may wait for what will not come

    def meet(self, suits: Suits, watch: Callable[[], None]) -> Taught:
        """What its answers are a function of, which it is asked once."""
        taught = self._taught
        if taught is None or not suits(taught):
            fields = self._within(lambda client, options, heard: _whole(client.do_action(TAUGHT, options)), watch)
            taught = Taught.parse(json.loads(fields), self.address.uri)
            self._taught, self._met = taught, time.monotonic()
        return taught

    def head(self, watch: Callable[[], None]) -> bytes:
        """Its masked-word head."""

        def read(client: flight.FlightClient, options: flight.FlightCallOptions, heard: Callable[[], None]) -> bytes:
            parts = []
            for chunk in client.do_get(flight.Ticket(HEAD), options):
                heard()
                parts += chunk.data["head"].to_pylist()
            return b"".join(parts)

        return self._within(read, watch)

    def answers(self, asked: Asked, masked: int, watch: Callable[[], None]) -> dict[str, npt.NDArray]:
        """To a block of so many masked tokens."""

        def read(
            client: flight.FlightClient, options: flight.FlightCallOptions, heard: Callable[[], None]
        ) -> dict[str, npt.NDArray]:
            rows: list[pa.RecordBatch] = []
            for chunk in client.do_get(flight.Ticket(asked.packed()), options):
                heard()
                rows += [chunk.data] * bool(chunk.data.num_rows)
                if are_whole(rows):
                    return unpack(rows, asked, masked)
            raise ValueError(f"{asked}: it did not send all")

        return self._within(read, watch)

    def _within(
        self,
        call: Callable[[flight.FlightClient, flight.FlightCallOptions, Callable[[], None]], T],
        watch: Callable[[], None],
    ) -> T:
        """Calls it in a thread of its own, which is left behind if the teacher falls silent."""
        future: Future[T] = Future()
        last = time.monotonic()

        def heard() -> None:
            nonlocal last
            last = time.monotonic()

        def run() -> None:
            try:
                headers = [(b"authorization", f"Bearer {self.address.token}".encode())]
                options = flight.FlightCallOptions(headers=headers, timeout=_LONGEST)
                future.set_result(call(self._connected(), options, heard))
            except flight.FlightUnavailableError as error:
                future.set_exception(_Lost(_first_line(error)))
            except Exception as error:
                future.set_exception(OSError(_first_line(error)))

        threading.Thread(target=run, name="teacher", daemon=True).start()
        while True:
            try:
                said = future.result(timeout=PULSE)
                self._rested, self.fault = 0.0, ""
                return said
            except TimeoutError:
                watch()
                if time.monotonic() - last > SILENCE:
                    raise _Lost(f"silent for {SILENCE:.0f} s") from None

    def _connected(self) -> flight.FlightClient:
        with self._lock:
            if self._client is None:
                own = {"tls_root_certs": self.address.roots.encode()} if self.address.roots else {}
                apart = [("grpc.use_local_subchannel_pool", 1)]  # else a new client is given the broken connection
                self._client = flight.FlightClient(self.address.uri, generic_options=apart, **own)
            return self._client


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
        self._teachers: dict[Address, _Teacher] = {}
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

        what = f"{split.location}, {split.name}"
        first = self._patiently(what, suits, lambda teacher, watch: teacher.meet(suits, watch))
        for teacher in self._present():
            with contextlib.suppress(OSError):
                other = teacher.meet(suits, lambda: None)
                if suits(other) and other.answered != first.answered:
                    raise ValueError(f"{teacher.address.uri} answers as {other}, another as {first}: stop one of them")
        return first

    def head(self, taught: Taught) -> bytes:
        """The masked-word head of who answers so. Raises ValueError as ``answers``."""
        return self._patiently("the head", _as(taught.answered), _Teacher.head)

    def answers(self, asked: Asked, masked: int) -> dict[str, npt.NDArray]:
        """To a block of so many masked tokens: columns [masked, ...] by name.

        Raises ValueError where nobody gave them in time.
        """
        return self._patiently(
            str(asked), _as(asked.of), lambda teacher, watch: teacher.answers(asked, masked, watch), key=asked.packed()
        )

    def _patiently(
        self, what: str, suits: Suits, ask: Callable[[_Teacher, Callable[[], None]], T], key: bytes = b""
    ) -> T:
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
                if suits(teacher.meet(suits, watch)):
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

    def _next(self, suits: Suits, key: bytes) -> _Teacher | None:
        """Whom to ask now, who is counted as asked; None where nobody can be."""
        present = self._present()
        with self._lock:
            able = [teacher for teacher in present if teacher.can_be_asked(suits)]
            fewest = min((teacher.asked for teacher in able), default=0)
            able = [teacher for teacher in able if teacher.asked <= fewest + _LEAD]
            ranks = (hashlib.sha256(teacher.address.uri.encode() + key).digest() for teacher in able)
            first = max(zip(ranks, able, strict=True), key=lambda pair: pair[0], default=(b"", None))[1]
            if first is not None:
                first.asked += 1
            return first

    def _present(self) -> list[_Teacher]:
        with self._lock:
            if time.monotonic() - self._looked > _LOOK_EVERY:
                now = addresses.found(self._places, self._token, self._roots)
                self._teachers = {each: self._teachers.get(each) or _Teacher(each) for each in now.addresses}
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


def _whole(results: Iterator[flight.Result]) -> bytes:
    return b"".join(result.body.to_pybytes() for result in results)


def _first_line(error: Exception) -> str:
    """Without Flight's account of its own insides."""
    text = " ".join(str(error).split())
    return text.partition(". gRPC client debug context")[0].partition(". Detail:")[0]
