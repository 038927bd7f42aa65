"""What a teacher sends is what it would store, bit for bit, and it sends it to nobody else."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.flight as flight
import pytest
import torch

import launcher.teach
from litebert.data.split import Split
from litebert.distill.addresses import found
from litebert.distill.fleet import Fleet, FleetFolder
from litebert.distill.lesson import Lesson
from litebert.distill.message import Asked
from litebert.distill.serving import ServeConfig, serve
from litebert.distill.stored import SoftFolder
from tests.litebert.distill.conftest import CODECS
from tests.litebert.distill.services import CPU, TOKEN, Columns, equal, lesson_of, serving, student

every_codec = pytest.mark.parametrize("name", CODECS)


@every_codec
def test_the_bits_are_those_that_are_stored(
    two_copies: Path, teacher_folder: Path, taught: dict[str, Path], name: str
) -> None:
    """Of every split, block and copy that was stored, over the wire; and the head and the codec with them."""
    stored = SoftFolder(taught[name])
    with (
        serving(lesson_of(two_copies, teacher_folder, name)) as served,
    ):
        fleet = student(served.address)
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


def test_who_asks_for_the_same_at_once_is_answered_once(two_copies: Path, lesson: Lesson) -> None:
    split = Split(two_copies, "train")

    def slowly(asked: Asked) -> Columns:
        time.sleep(0.02)
        return lesson.answers(asked)

    def told_to(number: int) -> list[Columns]:
        fleet = student(served.address)
        return [fleet.answers(asked, lesson.masked(asked)) for asked in wanted]

    wanted = [Asked(lesson.taught.answered, "train", block, 1) for block in range(12)]
    with serving(lesson, slowly) as served, ThreadPoolExecutor(4) as pool:
        told = list(pool.map(told_to, range(4)))
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


def test_too_many_at_once_are_sent_away_and_come_again(
    two_copies: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litebert.distill.service.WAITING", 1)
    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(8)]

    def slowly(asked: Asked) -> Columns:
        time.sleep(0.05)
        return lesson.answers(asked)

    with serving(lesson, slowly) as served, ThreadPoolExecutor(8) as pool:
        fleet = student(served.address)
        told = list(pool.map(lambda each: fleet.answers(each, lesson.masked(each)), asked))
    assert all(equal(one, lesson.answers(each)) for one, each in zip(told, asked, strict=True))


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
