"""A build that is killed with -9 and run again: the same bytes as one that was left alone, and nothing done twice."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_tools.build import build
from data_tools.executors.local import LocalExecutor
from data_tools.shards.manifest import Manifest

_MAIN = """
import sys, data_tools.build
data_tools.build.PART_CHARACTERS = 20_000  # many small pieces of work
from data_tools.__main__ import main
sys.exit(main())
"""


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def start(*arguments):
    command = [sys.executable, "-c", _MAIN, "build", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


def members(session):
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def workers_of(process):
    """Its worker processes; the one that only tracks their shared memory is none."""
    children = psutil.Process(process.pid).children()
    return [child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def strike(process, kind, random_):
    """Kill it, all that it started, or one worker; whether there was something to kill. Then nothing must live on."""
    try:
        if kind == "worker":
            os.kill(random_.choice(workers_of(process)), signal.SIGKILL)
        elif kind == "parent":
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except (IndexError, ProcessLookupError, psutil.NoSuchProcess):
        return False
    _, said = process.communicate(timeout=60)  # that a worker's death makes it hang would show here
    if kind == "worker" and process.returncode == 0:
        return False  # it had nothing left to do
    if kind == "worker":
        assert process.returncode == 2 and "a worker process was killed" in said.splitlines()[-1], said
    deadline = time.monotonic() + 30
    while left := members(process.pid):
        assert time.monotonic() < deadline, f"{kind} killed, and {left} live on"
        time.sleep(0.05)
    return True


def finished(output):
    """What the work folder of an output holds that is finished: the inode of each item's folder, and when it was
    written (that of a shard changes when it moves to the output)."""
    found = {}
    for work in output.parent.glob(f".{output.name}.*.partial"):
        for item in work.glob("*/*"):
            if item.is_dir() and not item.name.startswith(".") and item.parent.name not in ("tokenizer", "output"):
                status = item.stat()
                found[item] = status.st_ino, status.st_mtime_ns * (item.parent.name != "assembling")
    return found


def kill_until_done(tmp_path, arguments, expected, kills, seed):
    """Kill builds at random moments, each gone on with after its death, until so many kills have hit."""
    random_ = random.Random(seed)
    begin = time.monotonic()
    undisturbed = start(*arguments, "--output", tmp_path / "undisturbed", "--workers", 2)
    assert undisturbed.wait(timeout=600) == 0, undisturbed.stderr.read()
    seconds = time.monotonic() - begin
    assert contents(tmp_path / "undisturbed") == expected
    hits = number = kept = 0
    while hits < kills or not kept:  # until one of them was gone on with
        assert number < 2 * kills + 10, "no build was gone on with"
        output = tmp_path / f"out{number}"
        before = finished(output)
        process = start(*arguments, "--output", output, "--workers", 2)
        time.sleep(random_.uniform(0.2, 1.0) * seconds)
        if process.poll() is None and strike(process, ["worker", "parent", "group"][hits % 3], random_):
            hits += 1
            after = finished(output)
            if not output.exists():  # a build killed while it cleaned up has lost nothing: it is done
                assert {item: after.get(item) for item in before} == before, "something finished was done again"
            kept += len(before)
        else:
            assert process.wait(timeout=600) == 0, process.stderr.read()
        if output.exists():
            number += 1
    for done in range(number + 1):
        last = start(*arguments, "--output", tmp_path / f"out{done}", "--workers", 1 + done % 2)
        assert last.wait(timeout=600) == 0, last.stderr.read()
        assert contents(tmp_path / f"out{done}") == expected
    assert not list(tmp_path.glob(".out*"))


@pytest.fixture
def arguments(corpus, tokenizer_folder, build_config):
    shards = build_config.shards
    return [
        "--input", corpus, "--tokenizer", tokenizer_folder, "--pairs.seq_length", build_config.pairs.seq_length,
        "--shards.samples_per_shard", shards.samples_per_shard, "--shards.samples_per_block", shards.samples_per_block,
        "--shards.heldout_share", shards.heldout_share,
    ]  # fmt: skip


def test_killed_three_ways_the_bytes_are_the_same(tmp_path, arguments, shards):
    kill_until_done(tmp_path, arguments, contents(shards), 3, 1)


@pytest.mark.slow
def test_killed_twenty_times_the_bytes_are_the_same(tmp_path, arguments, shards):
    kill_until_done(tmp_path, arguments, contents(shards), 20, 2)


class Interrupted:
    """Does the first steps of a build, and is then stopped by hand."""

    def run(self, work, steps):
        LocalExecutor().run(work, steps[:3])
        raise KeyboardInterrupt


def test_another_input_or_config_starts_anew(tmp_path, corpus, tokenizer_folder, build_config, shards):
    """What an interrupted build left is of no use to a build of other text, and does not stay for ever."""
    changed = tmp_path / "corpus.jsonl"
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    changed.write_text("".join(lines[:-1]), encoding="utf-8")
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        build([changed], tokenizer_folder, output, build_config, executor=Interrupted())
    left = finished(output)
    assert {item.parent.name for item in left} == {"parts", "reading", "cleaning", "sources", "exact"}
    manifest = build([corpus], tokenizer_folder, output, build_config)
    assert contents(output) == contents(shards) and manifest == Manifest.load(shards)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_two_builds_do_not_share_a_work_folder(tmp_path, corpus, tokenizer_folder, build_config):
    class Within:
        def run(self, work, steps):
            with pytest.raises(ValueError, match="another build is at work in"):
                build([corpus], tokenizer_folder, tmp_path / "out", build_config)
            LocalExecutor().run(work, steps)

    build([corpus], tokenizer_folder, tmp_path / "out", build_config, executor=Within())
    assert Path(tmp_path / "out" / "manifest.json").exists()
