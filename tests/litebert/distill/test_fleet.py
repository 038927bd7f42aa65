"""A student gets its answers whatever happens to teachers, or waits, says so, and gives up."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.flight as flight
import pytest
import torch

import launcher.teach
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig, Plan
from litebert.data.split import Split
from litebert.data.stopwatch import Stopwatch
from litebert.distill.addresses import Address, announced, found
from litebert.distill.fleet import Fleet, FleetFolder
from litebert.distill.lesson import Lesson
from litebert.distill.message import Asked
from litebert.distill.service import Service
from litebert.distill.stored import SoftFolder
from tests.litebert.distill.services import TOKEN, Columns, equal, lesson_of, serving, student


def test_a_loader_reads_what_is_sent_as_it_reads_what_is_stored(
    two_copies: Path, lesson: Lesson, taught: dict[str, Path]
) -> None:
    """And two teachers share the work: each block is answered once, by one of them."""
    config, split = DataConfig(global_batch=60, micro_tokens=700), Split(two_copies, "train")
    with serving(lesson) as one, serving(lesson) as other:
        fleet = student(one.address, other.address)
        kept = [
            [batch.soft for step in Loader(split, config, 0, 1) for batch in step.micro_batches]
            for split in (FleetFolder(fleet, split).beside(split), SoftFolder(taught["head"]).beside(split))
        ]
        assert len(kept[0]) == len(kept[1]) > 20
        assert all(torch.equal(sent["rows"], stored["rows"]) for sent, stored in zip(*kept, strict=True))
        assert min(one.tally.blocks, other.tally.blocks) > 3
        assert one.tally.blocks + other.tally.blocks == len(split.block_samples)


def test_a_student_faster_than_its_teacher_asks_once(
    two_copies: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be fetched ahead is wanted before its turn, or while it is on its way."""
    asked_for = list[Asked]()

    def slowly(fleet: Fleet, asked: Asked, masked: int, answers: Callable = Fleet.answers) -> Columns:
        asked_for.append(asked)
        time.sleep(0.02)
        return answers(fleet, asked, masked)

    monkeypatch.setattr(Fleet, "answers", slowly)
    config, split = DataConfig(global_batch=60, micro_tokens=700), Split(two_copies, "train")
    with serving(lesson) as one:
        taught, plan = FleetFolder(student(one.address), split).beside(split), Plan(split, config, epochs=1)
        soon = next(step for step in range(plan.steps) if plan.step(step + 2).runs[-1].window == 1)
        assert len(list(Loader(taught, config, 0, 1, start=soon))) == plan.steps - soon > 10
    assert len(asked_for) == len(set(asked_for)) > 20


def test_one_that_fails_is_asked_again_and_another_meanwhile(two_copies: Path, lesson: Lesson) -> None:
    failures = iter([True] * 2)

    def badly(asked: Asked) -> Columns:
        if next(failures, False):
            raise ValueError("out of memory, say")
        return lesson.answers(asked)

    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(30)]
    with serving(lesson, badly) as one, serving(lesson) as other:
        fleet = student(one.address, other.address)
        for each in asked:
            assert equal(fleet.answers(each, lesson.masked(each)), lesson.answers(each))
            time.sleep(0.04)  # it is left alone for 0.25 s, and then for 0.5
        assert next(failures, None) is None and one.tally.blocks and other.tally.blocks


def test_nobody_is_waited_for_in_vain_and_that_is_said(
    lesson: Lesson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litebert.distill.fleet._SAY_EVERY", 0.5)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Address(f"grpc://127.0.0.1:{closed.getsockname()[1]}", TOKEN)
    asked, said = Asked(lesson.taught.answered, "train", 0, 0), list[str]()
    alone = student(nobody, patience=1.5, say=said.append)
    with pytest.raises(ValueError) as error:
        alone.answers(asked, lesson.masked(asked))
    assert "no teacher answered train block 0, copy 0 in " in str(error.value) and nobody.uri in str(error.value)
    assert "start one with launcher/teach.py --serve, or raise distill.patience" in str(error.value)
    assert 1 <= len(said) <= 4 and said[0].startswith("waiting for train block 0, copy 0 for ")
    with pytest.raises(ValueError, match=f"no teacher at {tmp_path}"):
        Fleet([str(tmp_path)], patience=0.3).answers(asked, 1)


def test_a_teacher_may_come_late_and_leave(two_copies: Path, lesson: Lesson, tmp_path: Path) -> None:
    """And another at the same place go on. Each student sees the folder as it is."""
    alone = Fleet([str(tmp_path)], patience=30)
    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(6)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(alone.answers, each, lesson.masked(each)) for each in asked]
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
    """Stopped, its sockets open, as of a machine that hangs; it may come to itself."""
    monkeypatch.setattr("litebert.distill.remote.SILENCE", 3.0)
    of = ["--teacher", str(teacher_folder), "--data", str(two_copies), "--codec.kind", "head", "--seed", "5"]
    script = str(Path(launcher.teach.__file__))
    process = subprocess.Popen([sys.executable, script, *of, "--serve", str(tmp_path)])
    first = process.pid
    try:
        while not (addresses := found([str(tmp_path)], "", "").addresses):
            time.sleep(0.05)
        asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(8)]
        alone = Fleet([str(tmp_path)], patience=60)
        assert equal(alone.answers(asked[0], lesson.masked(asked[0])), lesson.answers(asked[0]))
        os.kill(first, signal.SIGSTOP)
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(alone.answers, each, lesson.masked(each)) for each in asked[1:4]]
            time.sleep(4.0)
            assert not any(each.done() for each in waiting) and "silent for 3 s" in alone._faults(lambda taught: True)
            with serving(lesson) as other, announced(tmp_path / "other", other.address):
                both = Fleet([str(tmp_path), str(tmp_path / "other")], patience=60)
                begun = time.monotonic()
                for each in asked[4:]:
                    assert equal(both.answers(each, lesson.masked(each)), lesson.answers(each))
                assert time.monotonic() - begun < 3.0
            os.kill(first, signal.SIGCONT)
            told = [each.result() for each in waiting]
        assert all(equal(one, lesson.answers(each)) for one, each in zip(told, asked[1:], strict=False))
        assert len(addresses) == 1
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def silent(count: int) -> Iterator[list[Address]]:
    """Sockets that accept and say nothing."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64)) for _ in range(count)]
        yield [Address(f"grpc://127.0.0.1:{each.getsockname()[1]}", TOKEN) for each in made]


def test_addresses_where_nobody_speaks_keep_nobody_waiting(two_copies: Path, lesson: Lesson) -> None:
    """However many, and from the first block on; one alone would have held up some for as long as silence is borne."""
    split = Split(two_copies, "train")
    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(16)]
    with silent(12) as nobody, serving(lesson) as served, ThreadPoolExecutor(8) as pool:
        fleet = student(*nobody, served.address)
        begun = time.monotonic()
        assert FleetFolder(fleet, split).taught.answered == lesson.taught.answered
        told = list(pool.map(lambda each: fleet.answers(each, lesson.masked(each)), asked))
        assert time.monotonic() - begun < 12.0
        assert all(equal(one, lesson.answers(each)) for one, each in zip(told, asked, strict=True))
        assert served.tally.blocks == served.tally.sent == len(asked)
        assert "not heard yet" in fleet._faults(lambda taught: True)


class _Deaf(Service):
    """Says who it is, and nothing when it is asked for a block, until it is cured."""

    asked: list[bytes]
    cured: threading.Event

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        self.asked.append(ticket.ticket)
        self.cured.wait(60)
        return super().do_get(context, ticket)


def test_one_that_was_silent_answers_what_it_was_asked_before_it_is_asked_more(
    two_copies: Path, lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which holds nobody up; and all who wait for it leave together."""
    monkeypatch.setattr("litebert.distill.remote.SILENCE", 3.0)
    monkeypatch.setattr(_Deaf, "asked", [], raising=False)
    monkeypatch.setattr(_Deaf, "cured", threading.Event(), raising=False)
    asked = [Asked(lesson.taught.answered, "train", block, copy) for copy in (0, 1) for block in range(16)]

    def told(window: list[Asked]) -> float:
        begun = time.monotonic()
        columns = list(pool.map(lambda each: fleet.answers(each, lesson.masked(each)), window))
        seconds = time.monotonic() - begun
        assert all(equal(one, lesson.answers(each)) for one, each in zip(columns, window, strict=True))
        return seconds

    with serving(lesson) as served, ThreadPoolExecutor(8) as pool, serving(lesson, kind=_Deaf) as deaf:
        fleet = student(deaf.address, served.address)
        FleetFolder(fleet, Split(two_copies, "train"))  # both are met
        try:
            assert told(asked[:16]) < 8.0
            at_first = set(_Deaf.asked)
            for _ in range(3):
                assert told(asked[16:]) < 3.0
                time.sleep(1.5)
            assert at_first == set(_Deaf.asked) and len(at_first) < len(_Deaf.asked)
        finally:
            _Deaf.cured.set()
        deadline = time.monotonic() + 30
        while set(_Deaf.asked) == at_first and time.monotonic() < deadline:
            told(asked[16:])
            time.sleep(0.5)
        assert set(_Deaf.asked) > at_first


def test_how_busy_teachers_are(two_copies: Path, lesson: Lesson) -> None:
    """Beside the clock of who answers; the block at hand counts as far as it is, and whoever asks does not wait."""
    working = Stopwatch()

    def slowly(asked: Asked) -> Columns:
        with working:
            time.sleep(0.4)
            return lesson.answers(asked)

    asked = [Asked(lesson.taught.answered, "train", block, 0) for block in range(10)]
    with silent(1) as nobody, serving(lesson, slowly) as served, ThreadPoolExecutor(4) as pool:
        fleet = student(served.address, *nobody)
        fleet.answers(asked[0], lesson.masked(asked[0]))
        looks: list[tuple[float, float]] = []

        def look() -> float | None:
            looks.append((time.monotonic(), working.seconds))
            share = fleet.busy()
            assert time.monotonic() - looks[-1][0] < 0.3
            time.sleep(0.3)  # it is told in the background
            return share

        assert look() is None
        fleet.answers(asked[1], lesson.masked(asked[1]))
        time.sleep(1.0)
        assert look() is None
        for each in asked[2:]:
            pool.submit(fleet.answers, each, lesson.masked(each))
        time.sleep(2.0)
        shares = [look(), look()]
        for share, (begun, worked), (ended, more) in zip(shares, looks, looks[1:], strict=False):
            assert share == pytest.approx((more - worked) / (ended - begun), abs=0.15)
        assert shares[0] is not None and shares[1] is not None and shares[0] < 0.7 < shares[1]


def test_teachers_that_would_answer_differently_are_refused(
    two_copies: Path, lesson: Lesson, teacher_folder: Path, opinionated: Callable[[int], Path]
) -> None:
    other = lesson_of(two_copies, opinionated(2), "head")
    split = Split(two_copies, "train")
    with (
        serving(lesson) as one,
        serving(other) as two,
        pytest.raises(ValueError, match=r"answers as .*, another as .*: stop one of them"),
    ):
        fleet = student(one.address, two.address)
        FleetFolder(fleet, split)
    rounded = lesson_of(two_copies, teacher_folder, "head", precision="bf16")
    with serving(lesson) as one, serving(rounded) as two, pytest.raises(ValueError) as caught:
        FleetFolder(student(one.address, two.address), split)
    sides = {f"teacher {each.taught.teacher[:12]}, {each.taught.precision}, " for each in (lesson, rounded)}
    assert len(sides) == 2 and all(side in str(caught.value) for side in sides)
    with serving(other) as served:
        fleet = student(served.address, patience=1.0)
        asked = Asked(lesson.taught.answered, "train", 0, 0)
        with pytest.raises(ValueError, match="it answers other samples or masks, or as another teacher"):
            fleet.answers(asked, lesson.masked(asked))


def test_other_masks_are_refused(two_copies: Path, shards: Path, lesson: Lesson) -> None:
    with (
        serving(lesson) as served,
        pytest.raises(ValueError, match="it answers other samples or masks"),
    ):
        fleet = student(served.address, patience=1.0)
        FleetFolder(fleet, Split(shards, "train"))


def test_teachers_of_several_folders_do_not_stand_in_each_others_way(
    two_copies: Path, shards: Path, teacher_folder: Path, lesson: Lesson
) -> None:
    other = lesson_of(shards, teacher_folder, "head")
    with serving(lesson) as one, serving(other) as two:
        fleet = student(one.address, two.address)
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
    monkeypatch.setattr("litebert.distill.remote._MEET_EVERY", 1.0)
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
    monkeypatch.setattr("litebert.distill.fleet._SAY_EVERY", 0.5)
    done, said = threading.Event(), list[str]()

    def stuck(asked: Asked) -> Columns:
        done.wait(20)
        return lesson.answers(asked)

    asked = Asked(lesson.taught.answered, "train", 0, 0)
    with serving(lesson, stuck) as served:
        waiting = student(served.address, patience=2.0, say=said.append)
        with pytest.raises(ValueError, match="at work: start one with"):
            waiting.answers(asked, lesson.masked(asked))
        done.set()
    assert said and said[0].endswith(f"{served.address.uri}: at work")


def test_other_files_in_the_folder_are_passed_over_and_named(lesson: Lesson, tmp_path: Path) -> None:
    (tmp_path / "bad.json").mkdir()
    (tmp_path / "rubbish.json").write_text("[]")
    asked = Asked(lesson.taught.answered, "train", 0, 0)
    with serving(lesson) as served, announced(tmp_path, served.address):
        alone = Fleet([str(tmp_path)], patience=1.0)
        assert equal(alone.answers(asked, lesson.masked(asked)), lesson.answers(asked))
    time.sleep(1.2)
    with pytest.raises(ValueError, match=r"bad\.json.*rubbish\.json is not a teacher's address"):
        alone.answers(asked, lesson.masked(asked))
