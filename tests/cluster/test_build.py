"""A build by the tasks of a Slurm cluster that does not come far; test_commands.py has one that does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.distributed.bench import REPOSITORY


def test_what_is_wrong_with_the_text_is_said_by_the_one_who_asked(
    slurm: dict[str, str], tokenizer_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"body": "没有"}\n', encoding="utf-8")
    given = ["--input", tmp_path / "bad.jsonl", "--tokenizer", tokenizer_folder, "--output", tmp_path / "out"]
    environment = {**slurm, "PYTHON": sys.executable, "TASKS": "2", "PARTITION": "main", "MEMORY_GB": "1"}
    command = ["bash", str(REPOSITORY / "slurm" / "prepare.sh"), *map(str, given)]
    failed = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True)
    assert failed.returncode == 2 and not (tmp_path / "out").exists()
    assert "line 1: no text in field 'text'" in failed.stderr.splitlines()[-1]
