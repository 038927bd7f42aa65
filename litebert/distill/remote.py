"""A teacher at the other end of a network, as its students see it.

It is met before it is asked anything, and again after each failure, in a thread that nobody waits for: a machine that
accepts and says nothing would keep whoever asks for as long as silence is borne. One that was silent over a question
must have answered that as well, which nobody needs any more.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy.typing as npt
import pyarrow as pa
import pyarrow.flight as flight

from litebert.distill.addresses import Address
from litebert.distill.message import Asked, are_whole, unpack
from litebert.distill.service import HEAD, PULSE, STATE, TAUGHT
from litebert.distill.sidecar import Taught

T = TypeVar("T")

SILENCE = 15 * PULSE  # seconds after which a teacher that says nothing is taken for gone
_LONGEST = 3600.0  # seconds of a call; it ends threads that were left behind
_MEET_EVERY = 10.0  # seconds after which one that answers something else is asked again what it answers
_RESTS = (0.25, 8.0)  # seconds that a teacher is left alone after a failure, doubled each time up to the second

Suits = Callable[[Taught], bool]
Watch = Callable[[], None]
_Call = Callable[[flight.FlightClient, flight.FlightCallOptions, Watch], T]


class Lost(OSError):
    """A teacher cannot be reached."""


class RemoteTeacher:
    """One of a fleet. What its calls raise is OSError or ValueError, and what ``watch`` raises, which is called
    every second while one lasts.

    Attributes:
        address: where it is.
        taught: what its answers are a function of; None while it was not met, or not again since it failed.
        asked: how many wait for it, which whoever asks counts.
        fault: what went wrong last; empty since it answered.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.taught: Taught | None = None
        self.asked = 0
        self.fault = ""
        self._met = self._rested = self._until = self._silent = 0.0
        self._meets = False
        self._owed: _Call[object] | None = None
        self._tally: dict[str, float] | None = None
        self._share: float | None = None
        self._lock = threading.Lock()
        self._client: flight.FlightClient | None = None

    def can_be_asked(self, suits: Suits) -> bool:
        """Whether it may answer, as far as is known. One that failed is asked one thing at a time until it answers."""
        taught = self.taught  # read once: another thread's rest() may forget it meanwhile
        return taught is not None and suits(taught) and not (self.asked and self.fault)

    def why_not(self, suits: Suits) -> str:
        """Why it does not answer."""
        taught = self.taught
        if taught is not None and not suits(taught):
            return f"{self.address.uri}: it answers other samples or masks, or as another teacher, or in another codec"
        return f"{self.address.uri}: {self.fault or ('at work' if taught else 'not heard yet')}"

    def seek(self, suits: Suits) -> None:
        """Has it met where that is due; returns at once."""
        now = time.monotonic()
        with self._lock:
            taught = self.taught
            known = taught is not None and (suits(taught) or now - self._met < _MEET_EVERY)
            if known or self._meets or now < self._until:
                return
            self._meets = True
        threading.Thread(target=self._meet, name="teacher", daemon=True).start()

    def rest(self, fault: Exception) -> None:
        """After a failure."""
        self.fault, self.taught, self._tally = str(fault), None, None  # another may stand there soon
        if time.monotonic() >= self._until:
            least, most = _RESTS
            self._rested = min(most, max(least, 2 * self._rested))
            self._until = time.monotonic() + self._rested
        if isinstance(fault, Lost):  # the next time on another connection: a broken one may look alive for long
            with self._lock:
                client, self._client = self._client, None
            if client is not None:
                threading.Thread(target=client.close, daemon=True).start()  # it may wait for what will not come

    def head(self, watch: Watch) -> bytes:
        """Its masked-word head."""

        def read(client: flight.FlightClient, options: flight.FlightCallOptions, heard: Watch) -> bytes:
            parts = []
            for chunk in client.do_get(flight.Ticket(HEAD), options):
                heard()
                parts += chunk.data["head"].to_pylist()
            return b"".join(parts)

        return self._within(read, watch)

    def answers(self, asked: Asked, masked: int, watch: Watch) -> dict[str, npt.NDArray]:
        """To a block of so many masked tokens."""

        def read(
            client: flight.FlightClient, options: flight.FlightCallOptions, heard: Watch
        ) -> dict[str, npt.NDArray]:
            rows: list[pa.RecordBatch] = []
            for chunk in client.do_get(flight.Ticket(asked.packed()), options):
                heard()
                rows += [chunk.data] * bool(chunk.data.num_rows)
                if are_whole(rows):
                    return unpack(rows, asked, masked)
            raise ValueError(f"{asked}: it did not send all")

        return self._within(read, watch)

    def busy(self) -> float | None:
        """The share of time that it thought between the two calls before this one; None where it was not heard.

        Returns at once: what it has done since is asked in a thread of its own.
        """
        share, self._share = self._share, None
        if self.taught is not None:
            threading.Thread(target=self._look, name="teacher", daemon=True).start()
        return share

    def _meet(self) -> None:
        try:
            taught = Taught.parse(self._told(TAUGHT), self.address.uri)
            owed, self._owed = self._owed, None
            if owed:
                self._within(owed, lambda: None)
        except (OSError, ValueError) as error:
            self.rest(error)
        else:
            self.taught, self._met = taught, time.monotonic()
        finally:
            self._meets = False

    def _look(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # who asks it for answers will hear of it
            now, was = self._told(STATE), self._tally
            self._tally = now
            if was and now["seconds"] > was["seconds"]:
                self._share = (now["busy"] - was["busy"]) / (now["seconds"] - was["seconds"])

    def _told(self, action: str) -> dict[str, Any]:
        """What it says of itself, which needs no thought."""
        told: dict[str, Any] = json.loads(
            self._said(
                lambda client, options: b"".join(part.body.to_pybytes() for part in client.do_action(action, options)),
                SILENCE,
            )
        )
        return told

    def _within(self, call: _Call[T], watch: Watch) -> T:
        """Calls it in a thread of its own, which is left behind if the teacher falls silent."""
        future: Future[T] = Future()
        last = time.monotonic()

        def heard() -> None:
            nonlocal last
            last = time.monotonic()

        def run() -> None:
            try:
                future.set_result(self._said(lambda client, options: call(client, options, heard), _LONGEST))
            except OSError as error:
                future.set_exception(error)

        threading.Thread(target=run, name="teacher", daemon=True).start()
        while True:
            try:
                said = future.result(timeout=PULSE)
                self._rested, self.fault = 0.0, ""
                return said
            except TimeoutError:
                watch()
                if time.monotonic() - last > SILENCE:
                    self._silent = time.monotonic()
                if last < self._silent:  # all who wait for it leave when the first of them does
                    self._owed = call
                    raise Lost(f"silent for {SILENCE:.0f} s") from None

    def _said(self, call: Callable[[flight.FlightClient, flight.FlightCallOptions], T], seconds: float) -> T:
        """What comes of a call of so many seconds at most. Raises Lost, or OSError that says what it said."""
        headers = [(b"authorization", f"Bearer {self.address.token}".encode())]
        try:
            return call(self._connected(), flight.FlightCallOptions(headers=headers, timeout=seconds))
        except flight.FlightUnavailableError as error:
            raise Lost(_first_line(error)) from error
        except flight.FlightTimedOutError as error:
            raise Lost(f"silent for {seconds:.0f} s") from error
        except Exception as error:
            raise OSError(_first_line(error)) from error

    def _connected(self) -> flight.FlightClient:
        with self._lock:
            if self._client is None:
                own = {"tls_root_certs": self.address.roots.encode()} if self.address.roots else {}
                apart = [("grpc.use_local_subchannel_pool", 1)]  # else a new client is given the broken connection
                self._client = flight.FlightClient(self.address.uri, generic_options=apart, **own)
            return self._client


def _first_line(error: Exception) -> str:
    """Without Flight's account of its own insides."""
    text = " ".join(str(error).split())
    return text.partition(". gRPC client debug context")[0].partition(". Detail:")[0]
