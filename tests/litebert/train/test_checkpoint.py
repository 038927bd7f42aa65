"""Checkpoints on disk: what a reader may rely on, however they were cut short or damaged."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from litebert.train import checkpoint
from litebert.train.checkpoint import Retention, latest, owners, publish, read, read_weights

PART = "part-0000.safetensors"
KINDS = ("weights", "exp_avg", "exp_avg_sq")


def save(run: Path, step: int, keep: int = 9) -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(step)
    tensors = {kind: {"model.dense.weight": torch.randn(5, 3), "extra.scale": torch.randn(2)} for kind in KINDS}
    publish(run, step, tensors, {"recipe": {"lr": 0.1, "名": "试"}, "sums": [0.1 + 0.2]}, Retention(keep))
    return tensors


def steps(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def newest(run: Path) -> tuple[int | None, list[str]]:
    said: list[str] = []
    found = latest(run, said.append)
    return found.step if found else None, said


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = save(tmp_path, 3)
    found = latest(tmp_path)
    assert found is not None and found.step == 3
    assert found.info["recipe"] == {"lr": 0.1, "名": "试"} and found.info["sums"] == [0.1 + 0.2]
    for kind in KINDS:
        torch.testing.assert_close(found.tensors(kind), written[kind], rtol=0, atol=0)
    torch.testing.assert_close(
        read_weights(found.folder), {"dense.weight": written["weights"]["model.dense.weight"]}, rtol=0, atol=0
    )


def test_no_run_has_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") == (None, [])


@pytest.mark.parametrize("name", [PART, "checkpoint.json"])
def test_any_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path, 3)
    save(tmp_path, 6)
    path = tmp_path / "checkpoints" / "step-00000006" / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        step, said = newest(tmp_path)
        assert step == 3, f"byte {place}"
        assert len(said) == 1 and "step-00000006" in said[0]
    path.write_bytes(whole)
    assert newest(tmp_path) == (6, [])


@pytest.mark.parametrize("name", [PART, "checkpoint.json"])
def test_a_torn_or_missing_file_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path, 3)
    save(tmp_path, 6)
    path = tmp_path / "checkpoints" / "step-00000006" / name
    path.write_bytes(path.read_bytes()[:-1])
    assert newest(tmp_path)[0] == 3
    path.unlink()
    assert newest(tmp_path)[0] == 3


def test_a_kill_while_saving_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    save(tmp_path, 3)
    torn = tmp_path / "checkpoints" / "step-00000006.tmp"
    torn.mkdir()
    (torn / PART).write_bytes(b"half")
    assert newest(tmp_path) == (3, [])
    save(tmp_path, 6)
    assert steps(tmp_path) == ["step-00000003", "step-00000006"]
    assert newest(tmp_path) == (6, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_the_last_checkpoint_and_no_litter(tmp_path: Path) -> None:
    """On a disk of 300 kB, which holds the first checkpoint and not the second as well."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], check=True)
    try:
        tensors = {"weights": {"w": torch.randn(50_000)}}
        publish(disk, 3, tensors, {}, Retention(9))
        with pytest.raises(OSError, match=r"rank 0 could not save a checkpoint: .*No space left"):
            publish(disk, 6, tensors, {}, Retention(9))
        assert steps(disk) == ["step-00000003"]
        assert newest(disk) == (3, [])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_not_published(tmp_path: Path, kind: str) -> None:
    save(tmp_path, 3)
    tensors = {each: {"w": torch.ones(4)} for each in KINDS}
    tensors[kind]["w"][2] = torch.inf
    with pytest.raises(OSError, match=rf"rank 0 could not save a checkpoint: {kind}/w is not finite"):
        publish(tmp_path, 6, tensors, {}, Retention(9))
    assert steps(tmp_path) == ["step-00000003"]


class Together:
    """Threads that stand for ranks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._texts = [""] * size
        self._barrier = threading.Barrier(size, timeout=10)

    def publish(self, run: Path, step: int, shares: list[dict]) -> list[str]:
        """Publishes shares, one a rank; returns what each rank met with, or "" for nothing."""
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(lambda rank: self._publish(run, step, shares[rank], rank), range(self.size)))

    def _publish(self, run: Path, step: int, share: dict, rank: int) -> str:
        try:
            publish(run, step, share, {"rank": rank}, Retention(9), Peer(rank, self))
        except OSError as error:
            return str(error)
        return ""

    def gather(self, rank: int, text: str) -> list[str]:
        self._texts[rank] = text
        self._barrier.wait()
        texts = list(self._texts)
        self._barrier.wait()
        return texts


@dataclasses.dataclass(frozen=True)
class Peer:
    rank: int
    together: Together

    def gather(self, text: str) -> list[str]:
        return self.together.gather(self.rank, text)


def test_ranks_write_their_shares_and_one_reads_the_whole(tmp_path: Path) -> None:
    whole = {"weights": {f"p{n}": torch.randn(n + 1, 3) for n in range(7)}}
    dealt = owners({name: tensor.numel() for name, tensor in whole["weights"].items()}, 3)
    shares = [
        {"weights": {name: tensor for name, tensor in whole["weights"].items() if dealt[name] == rank}}
        for rank in range(3)
    ]
    shares.append({"weights": {}})  # a rank with nothing to do
    assert Together(4).publish(tmp_path, 5, shares) == ["", "", "", ""]
    found = latest(tmp_path)
    assert found is not None and found.info["rank"] == 0 and len(found.info["files"]) == 3
    torch.testing.assert_close(found.tensors("weights"), whole["weights"], rtol=0, atol=0)


def test_one_rank_that_cannot_write_stops_all_and_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 3)
    shares = [{"weights": {"a": torch.ones(2)}}, {"weights": {"b": torch.ones(2)}}]
    blocked = tmp_path / "checkpoints" / "step-00000006.tmp" / "part-0001.safetensors"
    begin = checkpoint._begin

    def begin_and_block(aside: Path, durable: Any, leads: bool) -> None:
        begin(aside, durable, leads)
        if leads:
            blocked.mkdir()  # where rank 1 wants to put its file

    monkeypatch.setattr(checkpoint, "_begin", begin_and_block)
    said = Together(2).publish(tmp_path, 6, shares)
    assert said[0] == said[1] and said[0].startswith("rank 1 could not save a checkpoint: ")
    assert steps(tmp_path) == ["step-00000003"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_parameters_are_dealt_out_evenly(ranks: int) -> None:
    """No rank has more than its even share and one parameter; equal sizes never matter for who gets what."""
    chance = random.Random(ranks)
    sizes = {f"p{n}": chance.randint(1, 1000) for n in range(50)}
    dealt = owners(sizes, ranks)
    assert dealt.keys() == sizes.keys()
    loads = [sum(size for name, size in sizes.items() if dealt[name] == rank) for rank in range(ranks)]
    assert max(loads) <= sum(sizes.values()) / ranks + max(sizes.values())
    assert owners(dict(reversed(sizes.items())), ranks) == dealt


def test_tensors_are_read_where_they_are_touched(tmp_path: Path) -> None:
    """64 MB of moments are saved, and 3 of their numbers read in a process of its own."""
    publish(tmp_path, 3, {"exp_avg": {"big": torch.ones(16_000_000)}}, {}, Retention(1))
    code = f"""
import psutil; from pathlib import Path; from litebert.train.checkpoint import read
checkpoint = read(Path({str(tmp_path / "checkpoints" / "step-00000003")!r}))
before = psutil.Process().memory_info().rss
total = checkpoint.tensors("exp_avg")["big"][5_000_000:5_000_003].sum()
print(float(total), psutil.Process().memory_info().rss - before)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, grown = map(float, done.stdout.split())
    assert total == 3 and grown < 16e6


def test_some_stay_for_good(tmp_path: Path) -> None:
    for step in range(5, 65, 5):
        publish(tmp_path, step, {"weights": {"w": torch.zeros(2)}}, {}, Retention(last=2, every=20))
    assert steps(tmp_path) == [f"step-{step:08d}" for step in (20, 40, 55, 60)]


def test_a_checkpoint_of_a_batch_that_was_ruled_out_is_not_taken(tmp_path: Path) -> None:
    for step, skipped in ((10, []), (20, []), (30, [14, 15])):
        publish(tmp_path, step, {"weights": {"w": torch.zeros(2)}}, {"skipped": skipped}, Retention(9))
    assert [latest(tmp_path, skipped=ruled_out).step for ruled_out in ([], [14, 15], [40])] == [30, 30, 30]  # type: ignore[union-attr]
    assert latest(tmp_path, skipped=[14, 15, 25]).step == 10  # type: ignore[union-attr]
    assert latest(tmp_path, skipped=[5]) is None


def test_a_copied_checkpoint_is_nobody_s(tmp_path: Path) -> None:
    save(tmp_path, 3)
    shutil.copytree(tmp_path / "checkpoints" / "step-00000003", tmp_path / "checkpoints" / "step-00000020.bak")
    save(tmp_path, 6, keep=1)
    assert steps(tmp_path) == ["step-00000006", "step-00000020.bak"]
    assert newest(tmp_path) == (6, [])


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (5, 10, 95, 100, 105):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == ["step-00000100", "step-00000105"]


def test_what_was_passed_over_is_replaced_not_counted(tmp_path: Path) -> None:
    """Going on from 3 past damaged 6 and 9, the run's own 6 takes the place of the one, and the other goes."""
    for step in (3, 6, 9):
        save(tmp_path, step)
    for step in (6, 9):
        (tmp_path / "checkpoints" / f"step-{step:08d}" / PART).write_bytes(b"")
    assert newest(tmp_path)[0] == 3
    save(tmp_path, 6, keep=2)
    assert steps(tmp_path) == ["step-00000003", "step-00000006"]
    assert newest(tmp_path) == (6, [])


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        save(tmp_path, 3)
    with pytest.raises(ValueError, match="format 99, this litebert reads 2"):
        read(tmp_path / "checkpoints" / "step-00000003")


def test_reading_needs_no_deepspeed() -> None:
    code = "import sys, litebert.train.checkpoint, litebert.recipe; print('deepspeed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
