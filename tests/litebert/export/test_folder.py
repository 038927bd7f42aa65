"""A folder that appears at once, with nothing of anybody else's lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from litebert.export.folder import new_folder


def test_two_at_once_do_not_meet_and_the_first_to_end_keeps_the_name(tmp_path: Path) -> None:
    output = tmp_path / "new" / "export"
    with pytest.raises(ValueError, match=r"export exists; give another --output"), new_folder(output) as slow:
        (slow / "file").write_text("slow")
        with new_folder(output) as fast:
            (fast / "file").write_text("fast")
        assert (slow / "file").read_text() == "slow"
    assert [path.name for path in output.parent.iterdir()] == ["export"] and (output / "file").read_text() == "fast"


def test_only_its_own_is_removed_and_others_may_read_it(tmp_path: Path) -> None:
    mine = tmp_path / ".export.partial"
    mine.mkdir()
    (mine / "thesis.txt").write_text("do not touch")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "export"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [".export.partial"]
    with new_folder(tmp_path / "export"):
        pass
    assert (mine / "thesis.txt").is_file() and (tmp_path / "export").stat().st_mode == mine.stat().st_mode
    with new_folder(tmp_path / "export") as folder:  # what is empty is replaced
        (folder / "file").write_text("")
    assert (tmp_path / "export" / "file").is_file()


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_the_umask_says_who_may_read_its_files(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "export") as folder:
            save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
            (folder / "README.md").write_text("")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "export").iterdir()}
    assert modes == dict.fromkeys(("model.safetensors", "README.md"), 0o666 & ~umask)


@pytest.mark.parametrize("target", ["nothing", "empty"])
def test_a_link_is_refused_before_any_work(target: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "export").symlink_to(tmp_path / target)
    refused = pytest.raises(ValueError, match=r"export exists as a link; give another --output")
    with refused, new_folder(tmp_path / "export"):
        pytest.fail("it began")
