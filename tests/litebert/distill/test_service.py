"""What a teacher sends is what it would store, bit for bit, whatever happens to it, its line, or whoever asks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import torch

import launcher.teach
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.distill import fleet, service
from litebert.distill.addresses import Address, announced, found
from litebert.distill.fleet import Fleet, FleetFolder
from litebert.distill.lesson import Lesson, TeachConfig
from litebert.distill.message import Asked, pack, read, unpack, written
from litebert.distill.service import Service, Tally
from litebert.distill.serving import Recording, ServeConfig, serve
from litebert.distill.stored import SoftFolder
from litebert.distill.teaching import Teaching
from tests.litebert.distill.conftest import CODECS

CPU, TOKEN = torch.device("cpu"), "a token of the tests"
Columns = Mapping[str, npt.NDArray]
every_codec = pytest.mark.parametrize("name", CODECS)


def lesson_of(shards: Path, teacher: Path, name: str, **more: object) -> Lesson:
    return Lesson(shards, teacher, CODECS[name], TeachConfig(seed=5, **more), CPU)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lesson(two_copies: Path, teacher_folder: Path) -> Lesson:
    return lesson_of(two_copies, teacher_folder, "head")


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
def serving(lesson: Lesson, answer: Callable[[Asked], Columns] | None = None, port: int = 0) -> Iterator[Served]:
    made = Service(lesson, answer or lesson.answers, f"grpc://127.0.0.1:{port}", TOKEN)
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


@contextlib.contextmanager
def students(*addresses: Address, **more: object) -> Iterator[Fleet]:
    yield Fleet([each.uri for each in addresses], TOKEN, **{"patience": 20.0, **more})  # type: ignore[arg-type]


def equal(one: Columns, other: Columns) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


@every_codec
def test_the_bits_are_those_that_are_stored(
    two_copies: Path, teacher_folder: Path, taught: dict[str, Path], name: str
) -> None:
    """Of every split, block and copy that was stored, over the wire; and the head and the codec with them."""
    stored = SoftFolder(taught[name])
    with (
        serving(lesson_of(two_copies, teacher_folder, name)) as served,
        students(served.address) as fleet,
    ):
        blocks = 0
        for split in ("train", "heldout"):
            own = Split(two_copies, split)
            sent = FleetFolder(fleet, own)
            assert sent.taught == stored.taught
            there, here = sent.beside(own), stored.beside(own)
            for copy in stored.taught.copies[split]:
                for block in range(len(own.block_samples)):
                    assert equal(there.columns(block, copy).soft, here.columns(block, copy).soft)
                    blocks += 1
        assert served.tally.blocks == blocks > 30
        heads = [folder.head(CPU, torch.float32) for folder in (sent, stored)]
        assert (heads[0] is None) == (heads[1] is None)
        if heads[0] and heads[1]:
            assert torch.equal(heads[0].weight_VE, heads[1].weight_VE)


def test_a_loader_reads_what_is_sent_as_it_reads_what_is_stored(
    two_copies: Path, lesson: Lesson, taught: dict[str, Path]
) -> None:
    """And two teachers share the work: each block is answered once, by one of them."""
    config, split = DataConfig(global_batch=60, micro_tokens=700), Split(two_copies, "train")
    with serving(lesson) as one, serving(lesson) as other, students(one.address, other.address) as fleet:
        kept = [
            [batch.soft for step in Loader(split, config, 0, 1) for batch in step.micro_batches]
            for split in (FleetFolder(fleet, split).beside(split), SoftFolder(taught["head"]).beside(split))
        ]
        assert len(kept[0]) == len(kept[1]) > 20
        assert all(torch.equal(sent["rows"], stored["rows"]) for sent, stored in zip(*kept, strict=True))
        assert min(one.tally.blocks, other.tally.blocks) > 3
        assert one.tally.blocks + other.tally.blocks == len(split.block_samples)


def test_who_asks_for_the_same_at_once_is_answered_once(two_copies: Path, lesson: Lesson) -> None:
    split = Split(two_copies, "train")

    def slowly(asked: Asked) -> Columns:
        time.sleep(0.02)
        return lesson.answers(asked)

    def student(number: int) -> list[Columns]:
        with students(served.address) as fleet:
            return [fleet.answers(asked, lesson.masked(asked)) for asked in wanted]

    wanted = [Asked(lesson.taught.answered, "train", block, 1) for block in range(12)]
    with serving(lesson, slowly) as served, ThreadPoolExecutor(4) as pool:
        told = list(pool.map(student, range(4)))
        assert served.tally.blocks == 12 and served.tally.sent == 48
        assert served.tally.masked == sum(split.masked(block, 1) for block in range(12))
    assert all(equal(one, other) for one, other in zip(told[0], told[3], strict=True))


def test_a_token_keeps_others_out(lesson: Lesson) -> None:
    with serving(lesson) as served:
        client = flight.FlightClient(served.address.uri)
        for headers in ([], [(b"authorization", b"Bearer no")], [(b"authorization", TOKEN.encode())]):
            options = flight.FlightCallOptions(headers=headers)
            for call in (
                lambda options=options: client.do_get(flight.Ticket(b"head"), options),
                lambda options=options: list(client.do_action("taught", options)),
                lambda options=options: list(client.list_actions(options)),
            ):
                with pytest.raises(flight.FlightUnauthenticatedError):
                    call()
        client.close()


@pytest.mark.parametrize("ticket", (b"", b"{}", b"[1]", b"\xff", b'{"of": 1, "split": "train", "block": 0, "copy": 0}'))
def test_what_is_no_question_is_refused(lesson: Lesson, ticket: bytes) -> None:
    refused(lesson, ticket, "no ticket of a block")


@pytest.mark.parametrize(
    ("more", "said"),
    (
        ({"of": "0" * 64}, "is asked of 000000000000, and this is"),
        ({"split": "test"}, "there is no test block 0, copy 0"),
        ({"block": 10**6}, "there is no train block 1000000"),
        ({"block": -1}, "there is no train block -1"),
        ({"copy": 2}, "there is no train block 0, copy 2"),
    ),
)
def test_a_question_for_another_is_refused(lesson: Lesson, more: dict[str, str | int], said: str) -> None:
    refused(lesson, json.dumps({"of": lesson.taught.answered, "split": "train", "block": 0, "copy": 0, **more}), said)


def refused(lesson: Lesson, ticket: bytes | str, said: str) -> None:
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {TOKEN}".encode())])
    with serving(lesson) as served, flight.FlightClient(served.address.uri) as client:
        with pytest.raises(flight.FlightServerError, match=said):
            client.do_get(flight.Ticket(ticket), options).read_all()
        assert served.tally.blocks == 0


def test_one_that_fails_is_asked_again_and_another_meanwhile(two_copies: Path, lesson: Lesson) -> None:
    failures = iter([True] * 2)

    def badly(asked: Asked) -> Columns:
        if next(failures, False):
            raise ValueError("out of memory, say")
        return lesson.answers(asked)

    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(30)]
    with serving(lesson, badly) as one, serving(lesson) as other, students(one.address, other.address) as fleet:
        for each in asked:
            assert equal(fleet.answers(each, lesson.masked(each)), lesson.answers(each))
            time.sleep(0.04)  # it is left alone for 0.25 s, and then for 0.5
        assert next(failures, None) is None and one.tally.blocks and other.tally.blocks


def test_nobody_is_waited_for_in_vain_and_that_is_said(
    lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_SAY_EVERY", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Address(f"grpc://127.0.0.1:{closed.getsockname()[1]}", TOKEN)
    asked, said = Asked(lesson.taught.answered, "train", 0, 0), list[str]()
    with students(nobody, patience=1.5, say=said.append) as alone, pytest.raises(ValueError) as error:
        alone.answers(asked, lesson.masked(asked))
    assert "no teacher answered train block 0, copy 0 in " in str(error.value) and nobody.uri in str(error.value)
    assert "start one with launcher/teach.py --serve, or raise distill.patience" in str(error.value)
    assert 1 <= len(said) <= 4 and said[0].startswith("waiting for train block 0, copy 0 for ")
    with pytest.raises(ValueError, match=f"no teacher at {tmp_path}"):
        Fleet([str(tmp_path)], patience=0.3).answers(asked, 1)


def test_a_teacher_may_come_late_and_leave(two_copies: Path, lesson: Lesson, tmp_path: Path) -> None:
    """And another at the same place go on. Each student sees the folder as it is."""
    student = Fleet([str(tmp_path)], patience=30)
    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(6)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(student.answers, each, lesson.masked(each)) for each in asked]
        time.sleep(0.5)
        assert not any(each.done() for each in waiting)
        with serving(lesson) as served, announced(tmp_path, served.address):
            told = [each.result() for each in waiting[:3]]
            port = served.service.port
        with serving(lesson, port=port) as served, announced(tmp_path, served.address):
            told += [each.result() for each in waiting[3:]]
    assert all(equal(one, lesson.answers(each)) for one, each in zip(told, asked, strict=True))
    assert found([str(tmp_path)], "", "").addresses == []


def test_one_that_falls_silent_is_left(
    two_copies: Path, teacher_folder: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped in the middle of an answer, its sockets open, as of a machine that hangs; it may come to itself."""
    monkeypatch.setattr(fleet, "SILENCE", 3.0)
    of = ["--teacher", str(teacher_folder), "--data", str(two_copies), "--codec.kind", "head", "--seed", "5"]
    script = str(Path(launcher.teach.__file__))
    process = subprocess.Popen([sys.executable, script, *of, "--serve", str(tmp_path)])
    first = process.pid
    try:
        while not (addresses := found([str(tmp_path)], "", "").addresses):
            time.sleep(0.05)
        asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(8)]
        student = Fleet([str(tmp_path)], patience=60)
        assert equal(student.answers(asked[0], lesson.masked(asked[0])), lesson.answers(asked[0]))
        os.kill(first, signal.SIGSTOP)
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(student.answers, each, lesson.masked(each)) for each in asked[1:4]]
            time.sleep(4.0)
            assert not any(each.done() for each in waiting) and "silent for 3 s" in student._faults(lambda taught: True)
            with serving(lesson) as other, announced(tmp_path / "other", other.address):
                both = Fleet([str(tmp_path), str(tmp_path / "other")], patience=60)
                begun = time.monotonic()
                for each in asked[4:]:
                    assert equal(both.answers(each, lesson.masked(each)), lesson.answers(each))
                assert time.monotonic() - begun < 12.0
            os.kill(first, signal.SIGCONT)
            told = [each.result() for each in waiting]
        assert all(equal(one, lesson.answers(each)) for one, each in zip(told, asked[1:], strict=False))
        assert len(addresses) == 1
    finally:
        process.kill()
        process.wait()


def test_too_many_at_once_are_sent_away_and_come_again(
    two_copies: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WAITING", 1)
    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(8)]

    def slowly(asked: Asked) -> Columns:
        time.sleep(0.05)
        return lesson.answers(asked)

    with serving(lesson, slowly) as served, students(served.address) as fleet, ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda each: fleet.answers(each, lesson.masked(each)), asked))
    assert all(equal(one, lesson.answers(each)) for one, each in zip(told, asked, strict=True))


def test_teachers_that_would_answer_differently_are_refused(
    two_copies: Path, lesson: Lesson, opinionated: Callable[[int], Path]
) -> None:
    other = lesson_of(two_copies, opinionated(2), "head")
    split = Split(two_copies, "train")
    with (
        serving(lesson) as one,
        serving(other) as two,
        students(one.address, two.address) as fleet,
        pytest.raises(ValueError, match=r"answers as .*, another as .*: stop one of them"),
    ):
        FleetFolder(fleet, split)
    with serving(other) as served, students(served.address, patience=1.0) as fleet:
        asked = Asked(lesson.taught.answered, "train", 0, 0)
        with pytest.raises(ValueError, match="it answers other samples or masks, or as another teacher"):
            fleet.answers(asked, lesson.masked(asked))


def test_other_masks_are_refused(two_copies: Path, shards: Path, lesson: Lesson) -> None:
    with (
        serving(lesson) as served,
        students(served.address, patience=1.0) as fleet,
        pytest.raises(ValueError, match="it answers other samples or masks"),
    ):
        FleetFolder(fleet, Split(shards, "train"))


def test_a_recording_is_what_would_have_been_stored(
    two_copies: Path, teacher_folder: Path, taught: dict[str, Path], tmp_path: Path
) -> None:
    """Byte for byte, of blocks in any order, by two processes, one of them started again; none is worked out twice."""
    lesson, soft, thought = lesson_of(two_copies, teacher_folder, "sampled"), tmp_path / "soft", list[Asked]()
    plain = lesson.answers

    def counted(asked: Asked) -> dict[str, npt.NDArray]:
        thought.append(asked)
        return plain(asked)

    lesson.answers = counted  # type: ignore[method-assign]
    asked = [
        Asked(lesson.taught.answered, split, block, copy)
        for split, copies in lesson.taught.copies.items()
        for copy in copies
        for block in range(len(lesson.splits[split].block_samples))
    ]
    np.random.default_rng(3).shuffle(asked)
    half = len(asked) // 2
    recordings = [Recording(lesson, soft) for _ in range(2)]
    for number, each in enumerate(asked[:half]):
        recordings[number % 2].answers(each)
    torn = next((soft / "unfinished/blocks").iterdir())
    torn.write_bytes(torn.read_bytes()[:-100])
    again = Recording(lesson, soft)
    told = [again.answers(each) for each in asked]
    assert len(thought) == len(asked) + 1
    content = {path.name: path.read_bytes() for path in taught["sampled"].iterdir()}
    assert {path.name: path.read_bytes() for path in soft.iterdir()} == content
    for each, columns in list(zip(asked, told, strict=True))[::7]:
        assert equal(columns, plain(each)) and equal(Recording(lesson, soft).answers(each), columns)
    assert len(thought) == len(asked) + 1


def test_what_nobody_asked_for_is_taught_afterwards(
    two_copies: Path, teacher_folder: Path, taught: dict[str, Path], tmp_path: Path
) -> None:
    lesson, soft = lesson_of(two_copies, teacher_folder, "topk"), tmp_path / "soft"
    recording = Recording(lesson, soft)
    for block in range(0, 20, 2):
        recording.answers(Asked(lesson.taught.answered, "train", block, 1))
    with pytest.raises(ValueError, match="no finished soft targets"):
        SoftFolder(soft)
    Teaching(lesson, soft).run()
    content = {path.name: path.read_bytes() for path in taught["topk"].iterdir()}
    assert {path.name: path.read_bytes() for path in soft.iterdir()} == content


def test_teachers_of_several_folders_do_not_stand_in_each_others_way(
    two_copies: Path, shards: Path, teacher_folder: Path, lesson: Lesson
) -> None:
    other = lesson_of(shards, teacher_folder, "head")
    with serving(lesson) as one, serving(other) as two, students(one.address, two.address) as fleet:
        begun = time.monotonic()
        for number in range(12):
            for its in (lesson, other):
                asked = Asked(its.taught.answered, "train", number % 8, 0)
                fleet.answers(asked, its.masked(asked))
        assert time.monotonic() - begun < 6.0 and one.tally.blocks == two.tally.blocks == 8


def test_what_was_asked_for_ahead_in_vain_is_asked_for_again(two_copies: Path, lesson: Lesson, tmp_path: Path) -> None:
    split, fleet = Split(two_copies, "train"), Fleet([str(tmp_path)], patience=1.0)
    with serving(lesson) as served:
        with announced(tmp_path, served.address):
            beside = FleetFolder(fleet, split).beside(split)
        time.sleep(1.2)
        beside.check(0, 0)  # nobody is there, and it gives up
        with announced(tmp_path, served.address):
            time.sleep(1.2)
            asked = Asked(lesson.taught.answered, "train", 0, 0)
            assert equal(beside.columns(0, 0).soft, lesson.answers(asked))


def test_another_teacher_at_the_same_place_is_noticed(
    two_copies: Path, lesson: Lesson, opinionated: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_MEET_EVERY", 1.0)
    asked = Asked(lesson.taught.answered, "train", 0, 0)
    with serving(lesson_of(two_copies, opinionated(2), "head")) as served, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Fleet([served.address.uri], TOKEN, patience=20).answers, asked, lesson.masked(asked))
        time.sleep(1.0)
        port = served.service.port
        served.leave()
        with serving(lesson, port=port):
            assert equal(waiting.result(), lesson.answers(asked))


def test_one_that_thinks_for_too_long_ends_the_patience(
    two_copies: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_SAY_EVERY", 0.5)
    done, said = threading.Event(), list[str]()

    def stuck(asked: Asked) -> Columns:
        done.wait(20)
        return lesson.answers(asked)

    asked = Asked(lesson.taught.answered, "train", 0, 0)
    with serving(lesson, stuck) as served, students(served.address, patience=2.0, say=said.append) as student:
        with pytest.raises(ValueError, match="at work: start one with"):
            student.answers(asked, lesson.masked(asked))
        done.set()
    assert said and said[0].endswith(f"{served.address.uri}: at work")


def test_other_files_in_the_folder_are_passed_over_and_named(lesson: Lesson, tmp_path: Path) -> None:
    (tmp_path / "bad.json").mkdir()
    (tmp_path / "rubbish.json").write_text("[]")
    asked = Asked(lesson.taught.answered, "train", 0, 0)
    with serving(lesson) as served, announced(tmp_path, served.address):
        student = Fleet([str(tmp_path)], patience=1.0)
        assert equal(student.answers(asked, lesson.masked(asked)), lesson.answers(asked))
    time.sleep(1.2)
    with pytest.raises(ValueError, match=r"bad\.json.*rubbish\.json is not a teacher's address"):
        student.answers(asked, lesson.masked(asked))


def test_hosts_and_addresses(tmp_path: Path) -> None:
    assert ServeConfig(tmp_path, host="[::1]").is_local and ServeConfig(tmp_path, host="localhost").is_local
    assert not ServeConfig(tmp_path, host="10.1.2.3").is_local and not ServeConfig(tmp_path, host="here").is_local
    elsewhere = tmp_path / f"{socket.gethostname()}-1-4194303.json"  # of a host whose name begins as ours
    elsewhere.write_text("{}")
    with announced(tmp_path, Address("grpc://here:2", "y")):
        assert elsewhere.exists()


def test_messages_say_what_they_are_of() -> None:
    asked, columns = Asked("a", "train", 3, 0), {"rows": np.arange(12, dtype=np.float16).reshape(4, 3)}
    assert equal(unpack([pack(asked, columns)], asked, 4), columns)
    for other, masked, said in (
        (dataclasses.replace(asked, block=4), 4, "the answer is to"),
        (asked, 5, r"column rows is float16 \[4, 3\], not of 5 masked tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            unpack([pack(asked, columns)], other, masked)
    with pytest.raises(ValueError, match="no answer, but columns x"):
        unpack([pa.RecordBatch.from_pydict({"x": [1]})], asked, 4)


@pytest.mark.parametrize("place", range(9))
def test_a_damaged_recording_is_no_answer(tmp_path: Path, place: int) -> None:
    asked, columns = Asked("a", "train", 3, 0), {"rows": np.arange(600, dtype=np.float16).reshape(200, 3)}
    content = bytearray(written(asked, columns))
    (tmp_path / "block").write_bytes(content)
    assert equal(read(tmp_path / "block", asked, 200), columns)
    content[len(content) * place // 9] ^= 0x55
    (tmp_path / "block").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        read(tmp_path / "block", asked, 200)


def certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_over_tls(two_copies: Path, lesson: Lesson, tmp_path: Path) -> None:
    """Whose certificate is not vouched for is not talked to; a student who reads the fleet's folder need not know."""
    cert, key = certificate(tmp_path)
    leaves, place = threading.Event(), tmp_path / "fleet"
    config = ServeConfig(place, tls_cert=cert, tls_key=key)
    thread = threading.Thread(target=serve, args=(lesson, config, None, leaves.is_set))
    thread.start()
    try:
        asked = Asked(lesson.taught.answered, "train", 1, 0)
        assert equal(Fleet([str(place)]).answers(asked, lesson.masked(asked)), lesson.answers(asked))
        (address,) = found([str(place)], "", "").addresses
        assert address.uri.startswith("grpc+tls://") and "BEGIN CERTIFICATE" in address.roots
        (announcement,) = place.iterdir()
        assert announcement.stat().st_mode & 0o077 == 0
        given = Fleet([address.uri], address.token, cert.read_text())
        assert equal(given.answers(asked, lesson.masked(asked)), lesson.answers(asked))
        for uri in (address.uri, address.uri.replace("grpc+tls", "grpc")):
            with pytest.raises(ValueError, match="no teacher answered"):
                Fleet([uri], address.token, patience=1.0).answers(asked, lesson.masked(asked))
    finally:
        leaves.set()
        thread.join()
    assert not list(place.iterdir())


def test_the_dead_are_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    with announced(tmp_path, Address("grpc://dead:1", "z")):
        (own,) = tmp_path.iterdir()
    (tmp_path / own.name.replace(str(os.getpid()), str(dead.pid))).write_text("{}")
    (tmp_path / "elsewhere-1.json").write_text(json.dumps({"uri": "grpc://elsewhere:1", "token": "x"}))
    with announced(tmp_path, Address("grpc://here:2", "y")):
        assert {each.uri for each in found([str(tmp_path)], "", "").addresses} == {
            "grpc://elsewhere:1",
            "grpc://here:2",
        }
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere-1.json"]


def test_wrong_requests_are_one_line(two_copies: Path, teacher_folder: Path, tmp_path: Path, capsys) -> None:
    given = ["--teacher", str(teacher_folder), "--data", str(two_copies)]
    short, two, cert = tmp_path / "token", tmp_path / "tokens", tmp_path / "cert"
    short.write_text("short")
    two.write_text("a token of more\nthan one line\n")
    cert.write_text("none")
    serves = ["--serve", str(tmp_path / "fleet")]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for more, said in (
            ([], "give either --output, to keep the answers, or --serve, to send them"),
            ([*serves, "--output", str(tmp_path / "soft")], "give either --output"),
            ([*serves, "--tls-cert", str(cert)], "TLS needs both --tls-cert and --tls-key"),
            ([*serves, "--host", "0.0.0.0"], "say with --advertise which one students call"),
            ([*serves, "--port", "70000"], "--port 70000 is none"),
            ([*serves, "--token-file", str(short)], "a token of fewer than 16 characters keeps nobody out"),
            ([*serves, "--token-file", str(tmp_path / "no")], "No such file"),
            ([*serves, "--token-file", str(two)], "a token is one word"),
            ([*serves, "--tls-cert", str(cert), "--tls-key", str(cert)], "are no certificate and its key"),
            (["--output", str(tmp_path / "soft"), "--record", str(tmp_path)], "--record is for --serve"),
            ([*serves, "--record", str(tmp_path)], "holds something that is no soft targets"),
            ([*serves, "--port", str(taken.getsockname()[1])], "cannot listen at"),
            ([*serves, "--host", "192.0.2.1"], "cannot listen at"),
        ):
            assert launcher.teach.main([*given, *more]) == 2
            line = capsys.readouterr().err
            assert line.startswith("teach: ") and said in line and line.count("\n") == 1, line
    assert not (tmp_path / "fleet").exists()
    with pytest.raises(ValueError, match="teachers are at grpc://HOST:PORT"):
        Fleet(["http://x:1"])
