"""What inspect shows is what the shards hold, mark by mark, and no block is read that it does not show."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from data_tools.build import BuildConfig, build
from data_tools.inspection import drawn, inspected
from data_tools.rendering import Renderer
from data_tools.shards.assembly import ShardConfig
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader

HEAD = re.compile(
    r"# shard=(\S+) block=(\d+) row=(\d+) document=([0-9a-f]{16}) number=(\d+) source=made-up .* order=(-?\d) \((.*)\)"
)
MARK = re.compile(r"\{([^→{}]+)→([^{}]+)\}|\{([^={}]+)=\}")


def run(*arguments, **options):
    command = [sys.executable, "-m", "data_tools", "inspect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def shown(folder, manifest, name, block, row, copy):
    """The sample at a place, straight from the block: (ids, masked positions and inputs, first, order)."""
    shard = next(one for entry in manifest.splits.values() for one in entry.shards if one.name == name)
    one = ShardReader(folder, shard).read(block, copy).take(np.array([row]))
    return one.samples.ids.tolist(), dict(zip(one.masks.positions, one.masks.inputs, strict=True)), one.samples


def test_the_plain_marks_say_what_the_block_holds(shards, tokenizer):
    result = run(shards, "--number", 40, "--seed", 3)
    assert result.returncode == 0, result.stderr
    samples = result.stdout.strip().split("\n\n")[1:]
    assert len(samples) == 40
    kinds = {"mask": 0, "random": 0, "kept": 0}
    manifest = Manifest.load(shards)
    for sample in samples:
        head, *segments = sample.split("\n")
        ((name, block, row, document, number, order, words),) = HEAD.findall(head)
        ids, masks, of = shown(shards, manifest, name, int(block), int(row), 0)
        assert (int(document, 16), int(number), int(order)) == (of.documents[0], of.numbers[0], of.order[0])
        assert ("swapped" in words, "follows" in words, "no pair" in words) == (
            order == "1",
            order == "0",
            order == "-1",
        )
        first = int(of.first[0])
        texts = [
            [tokenizer.pieces[id].replace("▁", " ") for id in part]
            for part in (ids[1 : 1 + first], ids[2 + first : -1])
        ]
        bare = [MARK.sub(r"\1\3", line[3:]).replace("|", "") for line in segments]
        assert bare == ["".join(text) for text in texts if text]
        begins = of.words[1 : 1 + first].sum() + of.words[2 + first : -1].sum()
        assert sum(line.count("|") + 1 for line in segments) == begins
        marks = [mark for line in segments for mark in MARK.findall(line)]
        assert len(marks) == len(masks)
        for (original, stand_in, kept), (position, shown_id) in zip(marks, masks.items(), strict=True):
            assert tokenizer.pieces[ids[position]].replace("▁", " ") == original or kept
            kind = "kept" if kept else "mask" if stand_in == "[MASK]" else "random"
            kinds[kind] += 1
            assert tokenizer.pieces[shown_id].replace("▁", " ") == (kept or stand_in)
    assert min(kinds.values()) > 5


def test_colours_add_nothing_but_codes(shards, tokenizer):
    """Without its codes a coloured segment is the text, with the original after each random stand-in."""
    plain = Renderer(tokenizer.pieces, tokenizer.vocabulary, colour=False)
    colour = Renderer(tokenizer.pieces, tokenizer.vocabulary, colour=True)
    for sample in inspected(shards, "train", 20, seed=2, copy=0):
        bare = re.sub(r"\x1b\[[0-9;]*m", "", colour.sample(sample))
        text = re.sub(r"\{([^→{}]+)→\[MASK\]\}|\{([^=→{}]+)=\}", r"\1\2", plain.sample(sample))
        assert bare == re.sub(r"\{([^→{}]+)→([^{}]+)\}", r"\2\1", text).replace("|", "")
        assert colour.sample(sample).count("\x1b[1;97;41") == plain.sample(sample).count("→[MASK]}")


def test_a_pair_of_strangers_is_called_that(shards, tokenizer):
    changed = next(sample for sample in inspected(shards, "train", 50, seed=1, copy=0) if sample.order == 1)
    renderer = Renderer(tokenizer.pieces, tokenizer.vocabulary, colour=False, objective="nsp")
    assert "order=1 (B is of another document)" in renderer.sample(changed)


def test_samples_are_of_the_sources_asked_for(texts, tokenizer_folder, tmp_path):
    lines = [json.dumps({"source": "abc"[number % 3], "text": text}) for number, text in enumerate(texts[:60])]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = BuildConfig(shards=ShardConfig(heldout_share=0.2))
    build([tmp_path / "x.jsonl"], tokenizer_folder, tmp_path / "shards", config)
    result = run(tmp_path / "shards", "--number", 1000, "--source", "c", "--source", "a")
    assert result.returncode == 0, result.stderr
    of = Manifest.load(tmp_path / "shards").splits["train"].sources
    assert Counter(re.findall("source=([abc])", result.stdout)) == {name: of[name]["samples"] for name in "ac"}


def test_only_the_blocks_of_the_samples_are_read(shards, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(shards, folder)
    expected = list(inspected(folder, "train", 2, seed=5, copy=0))
    wanted = {(sample.shard, sample.block) for sample in expected}
    for shard in Manifest.load(folder).splits["train"].shards:
        data = bytearray((folder / shard.name).read_bytes())
        for block, (begin, end) in enumerate(zip(shard.offsets, shard.offsets[1:], strict=False)):
            if (shard.name, block) not in wanted:
                data[begin:end] = bytes(end - begin)
        (folder / shard.name).write_bytes(data)
    assert list(inspected(folder, "train", 2, seed=5, copy=0)) == expected


def test_every_sample_has_the_same_chance():
    counts = np.bincount(np.concatenate([drawn(20, 5, seed) for seed in range(2000)]), minlength=20)
    assert ((counts - 500) ** 2 / 500).sum() < 45  # chi-square, 19 degrees of freedom, p = 0.0007
    assert sorted(drawn(7, 100, 1)) == list(range(7))
    assert len(set(drawn(1000, 900, 1).tolist())) == 900


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "test"), "has no split 'test', only heldout and train"),
        (("--copy", 1), "has no copy 1"),
        (("--source", "made-up", "--source", "wiki"), "no source wiki; there are made-up"),
        (("--number", 0), "--number 0 is not positive"),
    ],
)
def test_a_wrong_option_is_one_line(shards, arguments, message):
    result = run(shards, *arguments)
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1
