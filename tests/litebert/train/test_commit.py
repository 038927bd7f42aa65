"""The commit that a run records, of repositories that git made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from litebert.train.commit import CHANGED, commit


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    return subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True).stdout


def test_a_commit_is_told_with_what_was_changed_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "file.py").write_text("1\n")
    assert commit(code) == ""
    git(tmp_path, "init")
    assert commit(code) == "", "git knows the folder, and tracks nothing of it"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message=m")
    git(tmp_path, "tag", "--annotate", "--message=m", "v1")
    told = git(tmp_path, "rev-parse", "HEAD").strip()
    assert commit(code) == told and len(told) == 40
    (code / "other.py").write_text("a file of somebody's own\n")
    assert commit(code) == told
    (code / "file.py").write_text("2\n")
    assert commit(code) == told + CHANGED
    monkeypatch.setenv("PATH", "")
    assert commit(code) == ""
