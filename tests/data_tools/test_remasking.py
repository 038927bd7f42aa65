"""New masks from old shards: the bytes of a fresh build with those masks, however often it is killed on the way."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data_tools.build import build
from data_tools.remasking import remask
from data_tools.samples.masks import MaskConfig
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.verification import verify


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(*arguments):
    command = [sys.executable, "-m", "data_tools", "remask", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({"rate": 0.3}, 1),
        ({"strategy": "token", "copies": 2, "mask_share": 0.5, "random_share": 0.5}, 2),
        ({"seed": 7, "copies": 3}, 1),
    ],
)
def test_a_fresh_build_with_the_masks_has_the_same_bytes(
    shards, corpus, tokenizer_folder, build_config, tmp_path, changes, workers
):
    fresh = dataclasses.replace(build_config, masks=MaskConfig(**changes))
    expected = build([corpus], tokenizer_folder, tmp_path / "fresh", fresh)
    assert remask(shards, tmp_path / "made", changes, workers) == expected
    assert contents(tmp_path / "made") == contents(tmp_path / "fresh")
    assert contents(tmp_path / "made") != contents(shards)
    assert "whole" in verify(tmp_path / "made")


def test_what_is_not_given_stays_and_what_was_there_comes_back(shards, tmp_path):
    (shards / "train-00000.soft.tar").write_bytes(b"another program's file")
    assert run(shards, "--output", tmp_path / "two", "--masks.rate", 0.25, "--masks.copies", 2).returncode == 0
    (shards / "train-00000.soft.tar").unlink()
    masks = Manifest.load(tmp_path / "two").config["masks"]
    assert masks == {**Manifest.load(shards).config["masks"], "rate": 0.25, "copies": 2}
    back = run(tmp_path / "two", "--output", tmp_path / "back", "--masks.rate", 0.15, "--masks.copies", 1)
    assert back.returncode == 0 and contents(tmp_path / "back") == contents(shards)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "two"]


def test_a_seed_of_their_own_gives_other_masks_of_the_same_samples(shards, tmp_path):
    remask(shards, tmp_path / "other", {"seed": 2})
    old, new = (
        Manifest.load(shards).splits["train"].shards[0],
        Manifest.load(tmp_path / "other").splits["train"].shards[0],
    )
    before, after = ShardReader(shards, old).read(0, 0), ShardReader(tmp_path / "other", new).read(0, 0)
    assert np.array_equal(before.samples.ids, after.samples.ids)
    assert not np.array_equal(before.masks.positions, after.masks.positions)
    assert run(tmp_path / "other", "--output", tmp_path / "back", "--masks.seed", "null").returncode == 0
    assert contents(tmp_path / "back") == contents(shards)


def test_killed_it_goes_on_and_comes_to_the_same_bytes(shards, tmp_path):
    changes = ("--masks.copies", 10)
    assert run(shards, "--output", tmp_path / "whole", *changes).returncode == 0
    count = sum(len(entry.shards) for entry in Manifest.load(shards).splits.values())
    for wanted in (1, count - 1):
        output = tmp_path / f"killed{wanted}"
        command = [sys.executable, "-m", "data_tools", "remask", shards, "--output", output, *changes]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
        while process.poll() is None:
            finished = list(tmp_path.glob(f".{output.name}.*.partial/remasking/[!.]*/*.tar"))
            if len(finished) >= wanted:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        assert process.wait() == -signal.SIGKILL and not output.exists()
        kept = {path.name: path.stat().st_ino for path in finished}
        assert run(shards, "--output", output, *changes).returncode == 0
        assert contents(output) == contents(tmp_path / "whole")
        assert {name: (output / name).stat().st_ino for name in kept} == kept  # finished work was not done again


def test_the_same_again_is_found_done_and_another_is_refused(shards, tmp_path):
    remask(shards, tmp_path / "made", {"rate": 0.3})
    before = contents(tmp_path / "made")
    assert remask(shards, tmp_path / "made", {"rate": 0.3}) == Manifest.load(tmp_path / "made")
    refused = run(shards, "--output", tmp_path / "made", "--masks.rate", 0.4)
    assert refused.returncode == 2 and "holds shards of other text, config or tokenizer" in refused.stderr
    assert contents(tmp_path / "made") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--masks.rate", 2), "rate 2.0 is not between 0 and 1, both excluded"),
        (("--masks.ratio", 0.2), "masks.ratio"),
        (("--workers", 0), "workers 0: at least one"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_left(shards, tmp_path, arguments, message):
    result = run(shards, "--output", tmp_path / "out", *arguments)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_damaged_shards_are_not_masked(shards, wordpiece_folder, tmp_path):
    shutil.copytree(shards, tmp_path / "damaged")
    path = tmp_path / "damaged" / "train-00001.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-00001.tar, block 00001-00000 at byte 0: damaged"):
        remask(tmp_path / "damaged", tmp_path / "out", {"rate": 0.3})
    shutil.copyfile(shards / "train-00001.tar", path)
    (tmp_path / "damaged" / "train.lengths.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train.lengths.npy: damaged"):
        remask(tmp_path / "damaged", tmp_path / "out", {"rate": 0.3})
    shutil.copyfile(shards / "train.lengths.npy", tmp_path / "damaged" / "train.lengths.npy")
    shutil.rmtree(tmp_path / "damaged" / "tokenizer")
    shutil.copytree(wordpiece_folder, tmp_path / "damaged" / "tokenizer")
    with pytest.raises(ValueError, match="tokenizer: not the one"):
        remask(tmp_path / "damaged", tmp_path / "out", {"rate": 0.3})
    assert not (tmp_path / "out").exists()
