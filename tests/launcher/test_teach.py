"""Teaching, killed, divided, started again: the folder ends as the same bytes, or as nothing that can be read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import launcher.teach
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.tokenizer import Tokenizer
from litebert.data.split import Split
from litebert.distill.answers import Answering
from litebert.distill.codecs import CodecConfig, codec_of
from litebert.distill.stored import SoftFolder
from litebert.distill.teacher import Teacher
from litebert.model import ModelConfig, PretrainingModel, save_huggingface
from tests.distributed.forked import SERVER
from tests.litebert.distill.conftest import opinionated, teacher_folder, two_copies

__all__ = ["opinionated", "teacher_folder", "two_copies"]  # fixtures

ROUNDS = 8


@pytest.fixture(scope="module")
def arguments(two_copies: Path, teacher_folder: Path) -> list[str]:
    return ["--teacher", str(teacher_folder), "--data", str(two_copies), "--codec.kind=sampled", "--codec.draws=5"]


@pytest.fixture(scope="module")
def undisturbed(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "soft"
    assert launcher.teach.main([*arguments, "--output", str(output)]) == 0
    return output


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells a file that was left alone from one that was written again, of sidecars that count."""
    found = {}
    for entry in folder.glob("unfinished/*.tar.json"):
        with contextlib.suppress(FileNotFoundError):
            status = (folder / json.loads(entry.read_bytes())["name"]).stat()
            found[entry.name] = (status.st_ino, status.st_mtime_ns)
    return found


def killed(arguments: list[str], output: Path, whole: bool, delay: float) -> int:
    """Two ranks at work until one of them writes, or has finished a sidecar, and a little longer; how many it hit."""
    ranks = [[*arguments, "--output", str(output), "--task", f"{rank}/2"] for rank in range(2)]
    before, deadline = set(output.glob("**/*")), time.monotonic() + 60
    processes = [SERVER.Process(target=launcher.teach.main, args=(rank,)) for rank in ranks]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        new = set(output.glob("**/*")) - before
        if [path for path in new if not whole or path.name.endswith(".tar.json")]:
            break
        time.sleep(0.001)
    time.sleep(delay)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    return sum(process.exitcode == -signal.SIGKILL for process in processes)


def test_killed_at_random_moments_it_ends_as_if_undisturbed(
    arguments: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    chance, output = random.Random(7), tmp_path / "soft"
    done: dict[str, tuple[int, int]] = {}
    kills = asides = 0
    for number in range(ROUNDS):
        kills += killed(arguments, output, whole=number % 3 == 2, delay=chance.uniform(0, 0.03))
        asides += len(list(output.glob("**/*.tmp")))
        if (output / "manifest.json").exists():  # a quick machine
            break
        now = finished(output)
        assert done.items() <= now.items(), "a finished sidecar was written again"
        done = now
    print(f"{kills} kills, {len(done)} sidecars finished between them")
    assert kills >= ROUNDS // 2 and asides and done
    assert launcher.teach.main([*arguments, "--output", str(output)]) == 0
    assert content(output) == content(undisturbed)
    assert {f"{name}.json": status for name, status in written(output).items() if f"{name}.json" in done} == done


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """By shard, as ``finished``."""
    paths = {path.name.replace(".soft.tar", ".tar"): path.stat() for path in folder.glob("*.soft.tar")}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in paths.items()}


def test_tasks_and_ranks_share_the_work(
    arguments: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Two tasks of a job array with two ranks each, in any order; only the last one publishes."""
    output = tmp_path / "soft"
    shares = [(task, rank) for task in range(2) for rank in range(2)]
    random.Random(3).shuffle(shares)
    made: list[set[str]] = []
    for number, (task, rank) in enumerate(shares):
        with pytest.raises(ValueError, match="no finished soft targets"):
            SoftFolder(output)
        launcher_of = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))[number % 2]
        for name, value in zip(launcher_of, (rank, 2), strict=True):
            monkeypatch.setenv(name, str(value))
        before = set(written(output)) if output.exists() else set()
        assert launcher.teach.main([*arguments, "--output", str(output), "--task", f"{task}/2"]) == 0
        made.append(set(written(output)) - before)
        monkeypatch.delenv(launcher_of[0])
    assert all(made) and sum(map(len, made)) == len(written(output))
    assert "shards are others' to finish" in capsys.readouterr().out
    assert content(output) == content(undisturbed)


def test_a_teacher_without_token_types_answers_pairs(two_copies: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """An ALBERT that Hugging Face's folder says one type of: as it answers itself, and with the same for segment B."""
    torch.manual_seed(1)
    shape = ModelConfig(300, 24, 16, 2, 2, 40, max_positions=64, token_types=0, sharing="all")
    model = PretrainingModel(shape).eval()
    save_huggingface(model, tmp_path / "teacher", pad_id=0, cls_id=2, sep_id=3)
    save_tokenizer(tokenizer, tmp_path / "teacher")
    of = ["--teacher", str(tmp_path / "teacher"), "--data", str(two_copies), "--copies", "0", "--codec.kind=hidden"]
    assert launcher.teach.main([*of, "--output", str(tmp_path / "soft")]) == 0
    split = SoftFolder(tmp_path / "soft").beside(Split(two_copies, "train"))
    block = split.columns(0, 0)
    itself = Answering(Teacher(tmp_path, model, ""), codec_of(CodecConfig("hidden"), shape))
    expected = itself.answers(dataclasses.replace(block, soft={}), 0)
    assert split.paired[: len(block)].any() and np.array_equal(block.soft["rows"], expected["rows"])


def test_what_is_finished_is_left_alone(arguments: list[str], undisturbed: Path, capsys) -> None:
    """But for what a kill right after the manifest leaves."""
    before, whole = written(undisturbed), content(undisturbed)
    (undisturbed / "unfinished").mkdir()
    (undisturbed / "unfinished/train-00000.tar.json").write_text("{}")
    (undisturbed / "train-00000.soft.tar.node-7.tmp").write_text("half")
    assert launcher.teach.main([*arguments, "--output", str(undisturbed)]) == 0
    assert capsys.readouterr().out == f"{undisturbed}: finished before\n" and written(undisturbed) == before
    assert content(undisturbed) == whole and not (undisturbed / "unfinished").exists()


def test_wrong_requests_are_one_line_and_change_nothing(
    arguments: list[str], undisturbed: Path, opinionated: Callable[[int], Path], tmp_path: Path, capsys
) -> None:
    half = tmp_path / "half"
    assert launcher.teach.main([*arguments, "--output", str(half), "--task", "0/2"]) == 0
    before = content(half), content(undisturbed)
    capsys.readouterr()
    other = str(opinionated(2))
    for output in (half, undisturbed):
        for more, said in (
            (["--codec.draws=6"], "is of other soft targets: draws was 5, now 6: go back to that, or choose another"),
            (["--teacher", other], "is of other soft targets: teacher was "),
            (["--precision=bf16"], "precision was fp32, now bf16"),
            (["--seed=2"], "seed was 1, now 2"),
            (["--copies", "0"], "copies was {'heldout': [0], 'train': [0, 1]}, now {'heldout': [0], 'train': [0]}"),
            (["--copies", "2"], "--copies 2: the masked copies of"),
            (["--codec.kind=topk", "--codec.k=300"], "codec: k 300 must be below the vocabulary's 300"),
            (["--codec.kind=best"], "kind 'best' is none of"),
            (["--task", "2/2"], "--task 2/2: say I/N, I from 0 to N - 1"),
            (["--data", str(tmp_path / "nothing")], "no shards at"),
            (["--teacher", str(tmp_path)], "no teacher"),
        ):
            assert launcher.teach.main([*arguments, "--output", str(output), *more]) == 2
            line = capsys.readouterr().err
            assert line.startswith("teach: ") and said in line and line.count("\n") == 1, line
    assert (content(half), content(undisturbed)) == before
    assert launcher.teach.main([*arguments, "--output", str(tmp_path)]) == 2
    assert "holds something that is no soft targets: choose another --output" in capsys.readouterr().err
