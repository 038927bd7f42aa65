"""What is found before a run begins, of folders with something wrong about them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from litebert.plan.memory import Amount
from litebert.train.preflight import problems

LITTLE = Amount(1.0, "1 x 1 B")


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shards, tmp_path / "shards")


def test_nothing_is_wrong_and_nothing_is_made(copied: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "new"
    assert problems([str(copied), "https://nowhere.invalid/shards"], run, LITTLE) == []
    assert not run.parent.exists()


def test_shards_that_are_missing_or_cut_off_are_named(copied: Path, tmp_path: Path) -> None:
    first, second = sorted(copied.glob("train-*.tar"))[:2]
    size = first.stat().st_size
    with first.open("r+b") as file:
        file.truncate(size - 1)
    second.unlink()
    assert problems([str(copied)], tmp_path, LITTLE) == [
        f"{first} has {size - 1:,} bytes instead of {size:,}: copy the folder again",
        f"{second} is missing: copy the folder again",
    ]


def test_a_disk_that_is_too_small_is_named(copied: Path, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    (problem,) = problems([str(copied)], tmp_path / "run", Amount(2 * free, "2 x all that is left"))
    assert problem.startswith(f"{tmp_path} has ") and "(2 x all that is left): make room" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_folder_that_cannot_be_written_is_named(copied: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(sealed)], check=True)
    try:
        found = problems([str(copied)], sealed / "run", LITTLE)
    finally:
        subprocess.run(["umount", str(sealed)], check=True)
    assert found == [f"{sealed} cannot be written to: choose another --run"]
