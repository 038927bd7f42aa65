"""The benchmarks that need no more than this machine run, and say what they are to say."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_data_benchmark_runs_on_little_text(corpus, tokenizer_folder):
    command = [sys.executable, "benchmarks/data.py", "--quick", "--text", str(corpus)]
    command += ["--tokenizer", str(tokenizer_folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["mb_per_s_per_core"] > 0 and figures["two_workers_ratio"] > 0
    stages = figures["profile"]["sentencepiece"]
    assert {"words", "pieces"} <= set(stages)
    milliseconds = sum(stage.get("ms_per_mb", 0) for stage in stages.values())
    assert 0 < milliseconds < 3 * 1000 / figures["mb_per_s_per_core"], "stages are parts of a build"
    assert figures["webdataset"]["ours, in blocks"]["bytes_per_token"] < 5
    assert "peers, WordPiece: skipped, there is no --vocab" in done.stdout


def test_the_training_step_benchmark_runs_on_little_text(corpus, tmp_path):
    characters = sorted(
        {character for line in corpus.read_text().splitlines() for character in json.loads(line)["text"]}
    )
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *filter(str.strip, characters)]) + "\n")
    command = [sys.executable, "benchmarks/train_step.py", "--quick", "--data", str(corpus), "--vocab", str(vocab)]
    command += ["--shapes", "albert-tiny", "--samples", "2", "--steps", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    shape = figures["shapes"]["albert-tiny"]
    speeds = {side: speed["median"] for side, speed in shape["tokens_per_s"].items()}
    assert math.isclose(figures["ratio_vs_hf"]["albert-tiny"], speeds["ours"] / speeds["hf_eager"], abs_tol=0.02)
    assert 0 < shape["filled"] <= 1 and 0 < shape["share_of_matrix_rate"] < 1
    assert math.isclose(sum(shape["profile"].values()), 1, abs_tol=0.01)
