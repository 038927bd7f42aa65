"""Services and students in one process, for the tests of both."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from litebert.distill.addresses import Address
from litebert.distill.fleet import Fleet
from litebert.distill.lesson import Lesson, TeachConfig
from litebert.distill.message import Asked
from litebert.distill.service import Service, Tally
from tests.litebert.distill.conftest import CODECS

CPU, TOKEN = torch.device("cpu"), "a token of the tests"
Columns = Mapping[str, npt.NDArray]


def lesson_of(shards: Path, teacher: Path, name: str, **more: object) -> Lesson:
    return Lesson(shards, teacher, CODECS[name], TeachConfig(seed=5, **more), CPU)  # type: ignore[arg-type]


@dataclasses.dataclass
class Served:
    """A service in this process."""

    service: Service
    address: Address
    leave: Callable[[], None]

    @property
    def tally(self) -> Tally:
        return self.service.tally


@contextlib.contextmanager
def serving(
    lesson: Lesson, answer: Callable[[Asked], Columns] | None = None, port: int = 0, kind: type[Service] = Service
) -> Iterator[Served]:
    made = kind(lesson, answer or lesson.answers, f"grpc://127.0.0.1:{port}", TOKEN)
    leaves = threading.Event()
    thread = threading.Thread(target=made.run, args=(leaves.is_set,))
    thread.start()

    def leave() -> None:
        leaves.set()
        thread.join()

    try:
        yield Served(made, Address(f"grpc://127.0.0.1:{made.port}", TOKEN), leave)
    finally:
        leave()


def student(*addresses: Address, **more: object) -> Fleet:
    return Fleet([each.uri for each in addresses], TOKEN, **{"patience": 20.0, **more})  # type: ignore[arg-type]


def equal(one: Columns, other: Columns) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )
