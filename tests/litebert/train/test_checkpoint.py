"""Checkpoints on disk: what a reader may rely on, however they were cut short or damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from litebert.train import checkpoint
from litebert.train.checkpoint import latest, publish, read, read_weights

KINDS = ("weights", "exp_avg", "exp_avg_sq")


def save(run: Path, step: int, keep: int = 9) -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(step)
    tensors = {kind: {"model.dense.weight": torch.randn(5, 3), "extra.scale": torch.randn(2)} for kind in KINDS}
    publish(run, step, tensors, {"recipe": {"lr": 0.1, "名": "试"}, "sums": [0.1 + 0.2]}, keep)
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


@pytest.mark.parametrize("name", [*(f"{kind}.safetensors" for kind in KINDS), "checkpoint.json"])
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


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.json"])
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
    (torn / "weights.safetensors").write_bytes(b"half")
    assert newest(tmp_path) == (3, [])
    save(tmp_path, 6)
    assert steps(tmp_path) == ["step-00000003", "step-00000006"]
    assert newest(tmp_path) == (6, [])


def test_a_full_disk_leaves_the_last_checkpoint_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 3)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 6)
    assert steps(tmp_path) == ["step-00000003"]


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (5, 10, 95, 100, 105):
        save(tmp_path, step, keep=2)
    assert steps(tmp_path) == ["step-00000100", "step-00000105"]


def test_what_was_passed_over_is_replaced_not_counted(tmp_path: Path) -> None:
    """Going on from 3 past damaged 6 and 9, the run's own 6 takes the place of the one, and the other goes."""
    for step in (3, 6, 9):
        save(tmp_path, step)
    for step in (6, 9):
        (tmp_path / "checkpoints" / f"step-{step:08d}" / "weights.safetensors").write_bytes(b"")
    assert newest(tmp_path)[0] == 3
    save(tmp_path, 6, keep=2)
    assert steps(tmp_path) == ["step-00000003", "step-00000006"]
    assert newest(tmp_path) == (6, [])


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        save(tmp_path, 3)
    with pytest.raises(ValueError, match="format 99, this litebert reads 1"):
        read(tmp_path / "checkpoints" / "step-00000003")


def test_reading_needs_no_deepspeed() -> None:
    code = "import sys, litebert.train.checkpoint, litebert.recipe; print('deepspeed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
