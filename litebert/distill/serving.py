"""A teacher at work as a service: where it listens, what keeps others out, who is told of it, and when it leaves."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import secrets
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy.typing as npt

from litebert.distill.addresses import Address, announced, read_token
from litebert.distill.lesson import Lesson
from litebert.distill.message import Asked
from litebert.distill.service import Service
from litebert.distill.stored import SoftFolder
from litebert.distill.teaching import Teaching

T = TypeVar("T")

_SAY_EVERY = 60.0  # seconds between two lines of what was done


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Where a teacher listens.

    Attributes:
        fleet: folder that it announces itself in.
        host: to listen at: this machine alone, unless you say otherwise; 0.0.0.0 for all its addresses.
        port: to listen at; 0 for any that is free.
        advertise: the host that students are told, where it is not the one it listens at.
        token_file: of a token of your own; a new one is drawn if not said, and students find it in the fleet's folder.
        tls_cert, tls_key: PEM files, for TLS.
    """

    fleet: Path
    host: str = "127.0.0.1"
    port: int = 0
    advertise: str = ""
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", self.host.strip("[]"))
        problems = []
        if (self.tls_cert is None) != (self.tls_key is None):
            problems.append("TLS needs both --tls-cert and --tls-key")
        if not 0 <= self.port < 1 << 16:
            problems.append(f"--port {self.port} is none")
        if self.host in ("0.0.0.0", "::") and not self.advertise:
            problems.append(f"--host {self.host} is every address: say with --advertise which one students call")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve(lesson: Lesson, config: ServeConfig, record: Path | None, leave: Callable[[], bool]) -> bool:
    """Answers over the network until it is told to leave.

    Args:
        record: a folder of stored soft targets to make of the answers as they are given.

    Returns:
        whether it did all that it was to do: False where it stopped recording.

    Raises:
        ValueError: the record is of something else, or the token is too short.
        OSError: it cannot listen there, or a file cannot be read or written.
    """
    token = read_token(config.token_file) if config.token_file else secrets.token_urlsafe(32)
    certificate = None
    if config.tls_cert and config.tls_key:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(config.tls_cert, config.tls_key)
        except ssl.SSLError as error:
            raise ValueError(
                f"{config.tls_cert} and {config.tls_key} are no certificate and its key: {error}"
            ) from error
        certificate = config.tls_cert.read_bytes(), config.tls_key.read_bytes()
    scheme = "grpc+tls" if certificate else "grpc"
    recording = Recording(lesson, record) if record else None
    answer = recording.answers if recording else lesson.answers
    service = Service(lesson, answer, f"{scheme}://{_bracketed(config.host)}:{config.port}", token, certificate)
    uri = f"{scheme}://{_bracketed(config.advertise or config.host)}:{service.port}"
    print(f"{uri}: serves {lesson.taught.codec.kind}, {lesson.bytes_per_position} bytes a masked token", flush=True)
    if not (config.is_local or certificate):
        print(f"{uri}: the token and the answers pass in the clear: --tls-cert and --tls-key hide them", flush=True)
    with announced(config.fleet, Address(uri, token, certificate[0].decode() if certificate else "")):
        service.run(_speaking(service, uri, leave))
    print(f"{uri}: left; {service.tally}", flush=True)
    return recording is None or recording.is_sound


class Recording:
    """Answers of a lesson that are kept, and not worked out again.

    Attributes:
        is_sound: whether it records; a folder that fails ends that, and students get their answers all the same.
    """

    def __init__(self, lesson: Lesson, output: Path) -> None:
        """``output``: as ``Teaching`` has it. Raises ValueError where it is of something else."""
        self._lesson, self._output = lesson, output
        self._teaching = Teaching(lesson, output)
        self._teaching.begin()
        self.is_sound = True

    def answers(self, asked: Asked) -> Mapping[str, npt.NDArray]:
        """To a block. Raises as ``Lesson.answers``."""
        if (found := self._while_sound(self._found, asked)) is not None:
            return found
        answers = self._lesson.answers(asked)
        self._while_sound(self._keep, asked, answers)
        return answers

    def _while_sound(self, use: Callable[..., T], *given: object) -> T | None:
        """Uses the folder; says when it fails, which is once."""
        if not self.is_sound:
            return None
        try:
            return use(*given)
        except (OSError, ValueError) as error:
            self.is_sound = False
            print(
                f"{self._output}: recording stopped ({' '.join(str(error).split())}); students are answered all the "
                "same. Put that right; the same command, or one with --output, then records what is missing",
                file=sys.stderr,
                flush=True,
            )
            return None

    def _found(self, asked: Asked) -> Mapping[str, npt.NDArray] | None:
        return self._stored(asked) if self._teaching.is_finished else self._teaching.recorded(asked)

    def _keep(self, asked: Asked, answers: Mapping[str, npt.NDArray]) -> None:
        try:
            if not self._teaching.is_finished:
                self._teaching.record(asked, answers)
        except FileNotFoundError:
            if not self._teaching.is_finished:  # else another process was quicker, and cleared away
                raise

    def _stored(self, asked: Asked) -> Mapping[str, npt.NDArray] | None:
        """Of the finished folder; None where it has not that copy."""
        if asked.copy not in self._folder.taught.copies[asked.split]:
            return None
        return self._folder.beside(self._lesson.splits[asked.split]).columns(asked.block, asked.copy).soft

    @functools.cached_property
    def _folder(self) -> SoftFolder:
        return SoftFolder(self._output)


def _bracketed(host: str) -> str:
    """As a URI has it."""
    return f"[{host}]" if ":" in host else host


def _speaking(service: Service, uri: str, leave: Callable[[], bool]) -> Callable[[], bool]:
    """``leave``, that says now and then what was done since."""
    said, sent = time.monotonic(), 0

    def asked() -> bool:
        nonlocal said, sent
        if time.monotonic() - said > _SAY_EVERY and (now := service.tally).sent > sent:
            print(f"{uri}: {now}", flush=True)
            said, sent = time.monotonic(), now.sent
        return leave()

    return asked
