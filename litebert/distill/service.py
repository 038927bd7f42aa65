"""A teacher that answers over the network, block by block: an Arrow Flight server in front of a lesson.

A block is answered whole and once, whoever and how many ask for it: students of one order want the same blocks at about
the same time, so that is how they share a batch. What was answered last is kept for the next who asks. One thread
computes, that which calls ``Service.run``; Flight's own threads send.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

import numpy.typing as npt
import pyarrow as pa
import pyarrow.flight as flight

from litebert.distill.lesson import Lesson
from litebert.distill.message import Asked, pack, schema

HEAD, TAUGHT, STATE = b"head", "taught", "state"
WAITING = 256  # blocks that may be asked for at once; more are told to try another teacher
PULSE = 1.0  # seconds between two empty batches, which say that an answer is being worked on
_LOOK_EVERY = 0.5  # seconds between two looks at whether it is to leave
_PARTING = 5.0  # seconds that who is being answered may take to read when it leaves
_HELD = 64  # answered blocks that are kept
_MOST = 1 << 20  # bytes of the head that are sent together
_HEAD_SCHEMA = pa.schema([("head", pa.large_binary())])

Answer = Callable[[Asked], Mapping[str, npt.NDArray]]


@dataclasses.dataclass
class Tally:
    """What a teacher has done since it began.

    Attributes:
        blocks, masked: that it answered by thinking or from a recording.
        sent: blocks that it sent, the same one again included.
        busy: seconds that it thought, those over the block at hand included.
        seconds: since it began.
        waiting: blocks that it has not answered yet.
    """

    blocks: int = 0
    masked: int = 0
    sent: int = 0
    busy: float = 0.0
    seconds: float = 0.0
    waiting: int = 0

    def __str__(self) -> str:
        rate = self.masked / self.busy if self.busy else 0.0
        return (
            f"{self.blocks:,} blocks answered, {self.sent:,} sent, {rate:,.0f} masked tokens/s at work, "
            f"{self.busy / max(self.seconds, 1e-9):.0%} busy, {self.waiting} waiting"
        )


class Service(flight.FlightServerBase):
    """Serves from the moment it is made; answers while ``run`` runs."""

    def __init__(
        self, lesson: Lesson, answer: Answer, uri: str, token: str, certificate: tuple[bytes, bytes] | None = None
    ) -> None:
        """Args:
        answer: gives the answers to a block, the lesson's own or recorded ones.
        uri: to listen at; port 0 for any that is free, which ``port`` then is.
        token: that whoever asks must show.
        certificate: and its key, in PEM, for TLS.

        Raises OSError where it cannot listen there.
        """
        self._lesson, self._answer = lesson, answer
        self._tally, self._begun = Tally(), time.monotonic()
        self._thinks_since: float | None = None
        self._lock = threading.Lock()
        self._leaves = False
        self._futures: OrderedDict[Asked, Future[pa.RecordBatch]] = OrderedDict()
        self._queue: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        try:
            super().__init__(
                uri,
                tls_certificates=[certificate] if certificate else None,
                middleware={"token": _Guard(token)},
            )
        except pa.ArrowException as error:
            raise OSError(f"cannot listen at {uri}: {error}") from error

    @property
    def tally(self) -> Tally:
        """As it stands."""
        with self._lock:
            now = time.monotonic()
            busy = self._tally.busy + (now - self._thinks_since if self._thinks_since else 0.0)
            return dataclasses.replace(self._tally, busy=busy, seconds=now - self._begun, waiting=self._queue.qsize())

    def run(self, until: Callable[[], bool]) -> None:
        """Answers what is asked, until it is told to stop; looks for that between blocks and twice a second.

        Then it leaves: who still waits is told so.
        """
        try:
            while not until():
                with contextlib.suppress(queue.Empty):
                    self._think(self._queue.get(timeout=_LOOK_EVERY))
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._leaves = True
            waiting = [future for future in self._futures.values() if not future.done()]
        for future in waiting:
            future.set_exception(flight.FlightUnavailableError("the teacher leaves"))
        # It waits for whoever reads, and somebody who has stopped reading would keep it for ever.
        parting = threading.Thread(target=self.shutdown, daemon=True)
        parting.start()
        parting.join(_PARTING)

    @contextlib.contextmanager
    def _thinking(self) -> Iterator[None]:
        begun = self._thinks_since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._tally.busy += time.monotonic() - begun
                self._thinks_since = None

    def _think(self, asked: Asked) -> None:
        future = self._futures[asked]
        try:
            with self._thinking():
                batch = pack(asked, self._answer(asked))
        except Exception as error:
            with self._lock:
                del self._futures[asked]  # it may do better the next time
            future.set_exception(error)
            return
        self._tally.blocks += 1
        self._tally.masked += self._lesson.masked(asked)
        future.set_result(batch)

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        """The answers to a block, or the teacher's head."""
        if ticket.ticket == HEAD:
            return flight.GeneratorStream(_HEAD_SCHEMA, self._head())
        try:
            asked = Asked.parse(ticket.ticket)
            self._lesson.check(asked)
        except ValueError as error:
            raise flight.FlightServerError(str(error)) from error
        return flight.GeneratorStream(schema(asked), self._sent(self._future(asked), schema(asked)))

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[bytes]:
        """What the answers are a function of, or what was done so far."""
        if action.type == TAUGHT:
            return iter([json.dumps(self._lesson.taught.fields).encode()])
        if action.type == STATE:
            return iter([json.dumps(dataclasses.asdict(self.tally)).encode()])
        raise flight.FlightServerError(f"no action {action.type!r}; there are {TAUGHT} and {STATE}")

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:
        return [(TAUGHT, "what the answers are a function of"), (STATE, "what was done so far")]

    def _head(self) -> Iterator[pa.RecordBatch]:
        content = self._lesson.head or b""
        for begin in range(0, len(content), _MOST):
            part = pa.array([content[begin : begin + _MOST]], pa.large_binary())
            yield pa.record_batch([part], schema=_HEAD_SCHEMA)

    def _future(self, asked: Asked) -> Future[pa.RecordBatch]:
        with self._lock:
            if asked in self._futures:
                self._futures.move_to_end(asked)
                return self._futures[asked]
            if self._leaves:
                raise flight.FlightUnavailableError("the teacher leaves")
            if self._queue.qsize() >= WAITING:
                raise flight.FlightUnavailableError(f"{WAITING} blocks are waiting")
            future: Future[pa.RecordBatch] = Future()
            self._futures[asked] = future
            done = [each for each, its in self._futures.items() if its.done()]
            for each in done[: max(0, len(done) - _HELD)]:
                del self._futures[each]
        self._queue.put(asked)
        return future

    def _sent(self, future: Future[pa.RecordBatch], of: pa.Schema) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = future.result(timeout=PULSE)
                break
            except TimeoutError:
                yield pa.RecordBatch.from_pylist([], schema=of)
            except flight.FlightError:
                raise
            except Exception as error:
                raise flight.FlightServerError(" ".join(str(error).split())) from error
        with self._lock:
            self._tally.sent += 1
        for row in range(batch.num_rows):
            yield batch.slice(row, 1)


class _Guard(flight.ServerMiddlewareFactory):
    """Lets in who shows the token."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def start_call(self, info: flight.CallInfo, headers: Mapping[str, list[str]]) -> None:
        shown = next(iter(headers.get("authorization", [])), "")
        if not hmac.compare_digest(shown.encode(), self._expected):
            raise flight.FlightUnauthenticatedError("the token is not this teacher's")
