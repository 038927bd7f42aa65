"""A build by the tasks of a Slurm cluster: the same bytes as one on this machine."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def prepare(slurm, command, corpus, tokenizer, output, config):
    """Run slurm/prepare.sh by a command."""
    shards = config.shards
    arguments = [
        "--input", corpus, "--tokenizer", tokenizer, "--output", output, "--pairs.seq_length", config.pairs.seq_length,
        "--shards.samples_per_shard", shards.samples_per_shard, "--shards.samples_per_block", shards.samples_per_block,
        "--shards.heldout_share", shards.heldout_share,
    ]  # fmt: skip
    environment = {**slurm, "PYTHON": sys.executable, "TASKS": "2", "PARTITION": "main", "MEMORY_GB": "1"}
    script = REPOSITORY / "slurm" / "prepare.sh"
    return subprocess.run(
        [*command, script, *map(str, arguments)], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )


def test_job_arrays_give_the_same_bytes(slurm, corpus, tokenizer_folder, build_config, shards, tmp_path):
    """The process that submits the arrays being a job itself."""
    sbatch = ("sbatch", "--wait", f"--output={tmp_path}/log", "--mem=1G")
    done = prepare(slurm, sbatch, corpus, tokenizer_folder, tmp_path / "out", build_config)
    assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
    (tmp_path / "log").unlink()
    assert contents(tmp_path / "out") == contents(shards)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_wrong_with_the_text_is_said_by_the_one_who_asked(slurm, tokenizer_folder, build_config, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"body": "没有"}\n', encoding="utf-8")
    failed = prepare(slurm, ["bash"], tmp_path / "bad.jsonl", tokenizer_folder, tmp_path / "out", build_config)
    assert failed.returncode == 2 and not (tmp_path / "out").exists()
    assert "line 1: no text in field 'text'" in failed.stderr.splitlines()[-1]
