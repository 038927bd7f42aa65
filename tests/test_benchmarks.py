"""The benchmarks that need no more than this machine run, and say what they are to say."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from data_tools.shards.cache import cache_folder
from litebert.data.batch import Counts, MicroBatch
from litebert.model import ModelConfig, Packing, PretrainingModel, save_huggingface, to_huggingface

ROOT = Path(__file__).parents[1]


def characters(corpus: Path, folder: Path) -> Path:
    """A vocab.txt of the characters of a text."""
    seen = {character for line in corpus.read_text().splitlines() for character in json.loads(line)["text"]}
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *filter(str.strip, sorted(seen))]) + "\n")
    return vocab


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


@pytest.mark.bf16
def test_the_training_step_benchmark_runs_on_little_text(corpus, tmp_path):
    vocab = characters(corpus, tmp_path)
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


@pytest.mark.bf16
def test_the_distillation_benchmark_runs_on_little_text(corpus, tmp_path):
    command = [sys.executable, "benchmarks/distill.py", "--quick", "--data", str(corpus)]
    command += ["--vocab", str(characters(corpus, tmp_path))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "LITEBERT_CACHE": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    shape = figures["shapes"]["small"]
    speeds = {side: speed["median"] for side, speed in shape["tokens_per_s"].items()}
    assert speeds.keys() == {"live", "mlm", "stored", "hf", "hf_longest"}
    assert math.isclose(figures["stored_over_mlm"]["small"], speeds["mlm"] / speeds["stored"], abs_tol=0.02)
    assert math.isclose(figures["live_ratio_vs_hf"]["small"], speeds["live"] / speeds["hf"], abs_tol=0.02)
    costs = [shape["tokens_per_s"][side]["mflop_per_token"] for side in ("mlm", "live", "hf_longest", "hf")]
    assert 0 < costs[0] < costs[1] < costs[2] < costs[3], "a teacher costs something, and so does padding"
    assert figures["live_ratio_vs_textbrewer"]["small"] is None and "textbrewer==" in done.stdout
    assert 0 < shape["filled"]["hf"] < shape["filled"]["hf_longest"] <= 1
    assert math.isclose(sum(shape["profile"].values()), 1, abs_tol=0.01)


def test_the_service_benchmark_runs_on_little_text(corpus, tmp_path):
    command = [sys.executable, "benchmarks/service.py", "--quick", "--data", str(corpus)]
    command += ["--vocab", str(characters(corpus, tmp_path))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 0 <= figures["service_wait_share"] < 1 and 0 <= figures["stored_wait_share"] < 1
    assert figures["teacher_busy"] > 0 and figures["sent_bytes_per_s"] > 0
    assert math.isclose(figures["students_per_teacher"], 1 / figures["teacher_busy"], rel_tol=0.05)
    assert min(figures["student_tokens_per_s"].values()) > 0


@pytest.mark.parametrize("peer", ["hf", "textbrewer"])
def test_what_distillation_is_timed_beside_has_the_same_losses_and_gradients(peer, benchmarks, tmp_path):
    distill, distillers = benchmarks("distill"), benchmarks("distillers")
    textbrewer = distillers.find_textbrewer(cache_folder() / "benchmarks", install=False)
    if peer == "textbrewer" and textbrewer is None:
        pytest.skip("TextBrewer is not in the cache: benchmarks/distill.py puts it there")
    config = ModelConfig(60, hidden_size=24, embedding_size=24, num_layers=4, num_heads=2, intermediate_size=48)
    teacher, student = distill.pair(config)
    with torch.no_grad():
        for parameter in [*teacher.parameters(), *student.parameters()]:
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    batch = masked_batch(config.vocab_size, lengths=(7, 12, 16))
    batch_padded = padded(batch)
    theirs = distill.hugging_face_pair(teacher, student)

    ours = distill.live(teacher, student, torch.float32)(batch)
    ours.loss.backward()
    if peer == "hf":
        losses = distillers.hugging_face_losses(*theirs, batch_padded)
        losses["loss"].backward()
        for name in ("loss", "mlm", "ce", "cos"):
            torch.testing.assert_close(ours.values[name], losses[name].detach(), rtol=1e-5, atol=1e-5)
    else:  # its soft loss is a cross-entropy, the gradient's the same
        distillers.textbrewer_loss(textbrewer, *theirs, tmp_path, torch.device("cpu"))(batch_padded).backward()
    expected = {name: parameter.grad for name, parameter in theirs[1].named_parameters()}
    found = {name: gradient for name, gradient in gradients(student).items() if name in expected}
    assert found.keys() == expected.keys()
    assert all(gradient.abs().max() > 0 for name, gradient in expected.items() if "k_lin.bias" not in name)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def gradients(model: PretrainingModel) -> dict[str, torch.Tensor]:
    """By the names that Hugging Face has for the parameters."""
    of_gradients = copy.deepcopy(model)
    for own, parameter in zip(of_gradients.parameters(), model.parameters(), strict=True):
        assert parameter.grad is not None
        own.data = parameter.grad
    return to_huggingface(of_gradients, pad_id=0, cls_id=2, sep_id=3)[1]


def masked_batch(vocab_size: int, lengths: tuple[int, ...]) -> MicroBatch:
    chance = np.random.default_rng(3)
    tokens, masked = sum(lengths), sum(lengths) // 4
    draws = ((vocab_size, tokens), (2, tokens), (vocab_size, masked))
    ids, types, labels = (torch.from_numpy(chance.integers(0, most, size)) for most, size in draws)
    places = torch.from_numpy(np.sort(chance.choice(tokens, masked, replace=False)))
    order = torch.full((len(lengths),), -1)
    return MicroBatch(ids, types, Packing.of(lengths), places, labels, order, Counts(tokens, len(lengths), masked, 0))


def padded(batch: MicroBatch) -> dict[str, torch.Tensor]:
    labels = torch.full_like(batch.ids, -100).index_copy(0, batch.masked, batch.labels)
    columns = {"input_ids": batch.ids, "token_type_ids": batch.token_types, "attention_mask": torch.ones_like(labels)}
    lengths = batch.packing.lengths.tolist()
    return {
        name: pad_sequence(
            column.split(lengths),
            batch_first=True,
            padding_value=-100 if name == "labels" else 0,
        )
        for name, column in (columns | {"labels": labels}).items()
    }


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


def test_the_scaling_benchmark_plans_what_fits_and_leaves_out_what_does_not(tmp_path):
    command = [sys.executable, "benchmarks/scaling.py", "launcher/recipes/albert_base.yaml", "--length", "64"]
    command += ["--data.global_batch", "64", "--output", str(tmp_path / "scaling.png")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [int(row[0]) for row in rows] == [8, 16, 32, 64], "a device has a sample at least"
    hours = [float(row[8]) for row in rows]
    assert hours == sorted(hours) and hours[-1] > hours[0] > 0, "more devices take more device-hours"
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_the_study_tables_differences_from_the_student(benchmarks):
    study = benchmarks("study")

    def task(name, mean, floor):
        arms = {
            arm: {"test": {"f1": {"scores": [score - 0.01, score, score + 0.01]}}}
            for arm, score in (("model", mean), ("floor", floor))
            if score is not None
        }
        return {"task": name, "metric": "f1", **arms}

    heldout = {
        name: {"parameters": 10, "heldout_mlm": 5.0, "commit": f"of {name}", **beside}
        for name, beside in (
            ("teacher", {}),
            ("student", {"heldout_kl": 0.5, "heldout_agreement": 0.75}),
            ("without ce", {"heldout_kl": 0.7, "heldout_agreement": 0.75}),
        )
    }
    scores = {"teacher": (0.66, None, None), "student": (0.64, 0.3, 0.1), "without ce": (0.6, None, None)}
    tasks = {
        name: {"tasks": [task("a", mean, one), task("b", mean - 0.2, other)]}
        for name, (mean, one, other) in scores.items()
    }
    rows = study.rows_of(heldout, tasks)
    assert rows["teacher"]["seeds"] == {"a": [65.0, 66.0, 67.0], "b": [45.0, 46.0, 47.0]}
    assert rows["student's floor"]["seeds"]["b"] == [9.0, 10.0, 11.0] and rows["student"]["commit"] == "of student"
    table = study.table(rows)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert cells[0][4:6] == ["a", "b"] and len({len(row) for row in cells}) == 1
    around = 100 * 4.303 * 0.01 / 3**0.5  # of Student's t at two degrees of freedom
    assert cells[2] == [
        "teacher",
        "5.000",
        "",
        "",
        *(f"{mean} ± {around:.1f}" for mean in ("66.0", "46.0", "56.0")),
        "+2.00",
        "",
    ]
    assert cells[4][:4] == ["without ce", "5.000", "0.700", "75.0%"] and cells[4][-2:] == ["-4.00", "-2.96"]
    assert (
        cells[5][:4] == ["random weights of the student's shape", "", "", ""] and cells[5][6] == f"20.0 ± {around:.1f}"
    )
    assert len(cells) == 6
