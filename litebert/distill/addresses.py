"""Where the teachers of a fleet are: one JSON file each, in a folder that students look into again and again.

A teacher writes its own when it can be asked, and takes it away when it leaves. It holds the token that the teacher
wants to hear, so only its owner may read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

SCHEMES = ("grpc://", "grpc+tls://")
_LEAST_TOKEN = 16  # characters


@dataclasses.dataclass(frozen=True)
class Address:
    """A teacher's.

    Attributes:
        uri: grpc://HOST:PORT, or grpc+tls://HOST:PORT.
        token: that it wants to hear.
        roots: certificates, in PEM, that vouch for it; none for the system's.
    """

    uri: str
    token: str
    roots: str = ""


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is at some places.

    Attributes:
        addresses: of teachers.
        faults: what is wrong with files that hold none.
    """

    addresses: list[Address]
    faults: list[str]


@contextlib.contextmanager
def announced(folder: Path, address: Address) -> Iterator[None]:
    """This process's address stands in a folder for as long as this lasts; those of the dead of this host are cleared.

    Raises OSError where it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = _host()
    for path in folder.glob(f"{host}-*.json"):
        of_host, _, process = path.stem.rpartition("-")
        if of_host == host and process.isdecimal() and not psutil.pid_exists(int(process)):
            path.unlink(missing_ok=True)
    path, aside = (folder / f"{host}-{os.getpid()}.{suffix}" for suffix in ("json", "tmp"))
    aside.unlink(missing_ok=True)
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(dataclasses.asdict(address), file)
    os.replace(aside, path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _host() -> str:
    """This host, and which of its sets of process ids: two containers may have one name, and both a process 7."""
    with contextlib.suppress(OSError):
        spaces = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
        return f"{socket.gethostname()}-{hashlib.blake2b(spaces.encode(), digest_size=4).hexdigest()}"
    return socket.gethostname()


def check(places: Sequence[str]) -> None:
    """Raises ValueError where a place is neither a path nor a teacher's URI."""
    for place in places:
        if "://" in place and not place.startswith(SCHEMES):
            raise ValueError(f"{place}: teachers are at {' or '.join(f'{each}HOST:PORT' for each in SCHEMES)}")


def found(places: Sequence[str], token: str, roots: str) -> Found:
    """The addresses that there are now.

    Args:
        places: folders that teachers announce themselves in, single files of them, or URIs.
        token, roots: of the URIs.
    """
    addresses, faults = [], []
    for place in places:
        if place.startswith(SCHEMES):
            addresses.append(Address(place, token, roots))
            continue
        path = Path(place)
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            try:
                addresses.append(_parse(file))
            except FileNotFoundError:  # it left just now, or has not come yet
                continue
            except (OSError, ValueError) as error:
                faults.append(str(error))
    return Found(addresses, faults)


def read_token(path: Path) -> str:
    """Of a file. Raises ValueError where it is none, or too short to keep anybody out."""
    token = path.read_text(errors="replace").strip()
    if not re.fullmatch("[!-~]*", token):
        raise ValueError(f"{path}: a token is one word of letters, digits and signs of ASCII")
    if len(token) < _LEAST_TOKEN:
        raise ValueError(f"{path}: a token of fewer than {_LEAST_TOKEN} characters keeps nobody out")
    return token


def _parse(file: Path) -> Address:
    try:
        address = Address(**json.loads(file.read_bytes()))
        if not all(isinstance(value, str) for value in vars(address).values()):
            raise TypeError("a value is no string")
        return address
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a teacher's address ({error}): take it away") from error
