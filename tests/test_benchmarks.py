"""The benchmarks that need no more than this machine run, and say what they are to say."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import torch

from litebert.model import ModelConfig, PretrainingModel, save_huggingface

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


def test_the_soft_targets_benchmark_tells_exact_codecs_from_others(shards, tmp_path):
    torch.manual_seed(0)
    teacher = PretrainingModel(
        ModelConfig(300, hidden_size=32, embedding_size=16, num_layers=2, num_heads=2, intermediate_size=64)
    )
    save_huggingface(teacher, tmp_path / "teacher", pad_id=0, cls_id=2, sep_id=3)
    command = [sys.executable, "benchmarks/soft_targets.py", "--teacher", str(tmp_path / "teacher")]
    command += ["--shards", str(shards), "--positions", "200", "--repeats", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    codecs = figures["codecs"]
    assert (codecs["hidden"]["bytes"], codecs["head"]["bytes"], codecs["head, 8 bits"]["bytes"]) == (64, 32, 18)
    assert 0 < codecs["head"]["kl"] < codecs["head, 8 bits"]["kl"] < codecs["topk 16"]["kl"]
    assert codecs["sampled 64"]["kl"] is None
    # Over many positions the errors of unbiased draws cancel, those of the likeliest words alone do not.
    share = {name: row["mean_gradient_error"] / row["gradient_error"] for name, row in codecs.items()}
    assert share["sampled 64"] < share["topk 64"]

    command[command.index("--shards") + 1] = str(tmp_path)
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "manifest.json" in refused.stderr


def test_the_loader_benchmark_runs_on_few_samples(tmp_path):
    command = [
        sys.executable,
        "benchmarks/loader.py",
        "--samples",
        "100000",
        "--repeats",
        "1",
        "--folder",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["samples_per_s_per_core"] > figures["webdataset"]["median"] > 0
    assert figures["seconds_to_first_batch"] > 0 and figures["verified_samples_per_s"] > 0
