"""The benchmarks that need no more than this machine run, and say what they are to say."""

import copy
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence

from litebert.data.batch import Counts, MicroBatch
from litebert.demo.corpus import cache_folder
from litebert.export.onnx_folder import export_onnx
from litebert.model import ModelConfig, Packing, PretrainingModel, save_huggingface, to_huggingface
from litebert.train.commit import commit
from litebert.train.trained import load_trained
from tests.litebert.export.test_export import run_on

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


def test_every_form_that_is_timed_gives_the_same_hidden_states(benchmarks, shards, tmp_path):
    inference, encoders = benchmarks("inference"), benchmarks("encoders")
    run = run_on(shards, tmp_path)
    model = inference.Model.of(run, tmp_path / "made")
    trained = load_trained(run).model
    encoder = trained.encoder
    assert model.parameters == sum(parameter.numel() for parameter in encoder.parameters())
    ids_BL = np.random.default_rng(0).integers(model.vocab_size, size=(3, 20))
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(ids_BL).flatten(), None, Packing.of([20] * 3)).view(3, 20, -1)
    assert tuple(model.files) == inference.FORMS == tuple(encoders.FORMS)
    for form, file in model.files.items():
        hidden = torch.as_tensor(encoders.FORMS[form](file, 1)()(ids_BL))
        away = float((hidden - expected).abs().max() / expected.abs().max())
        assert 1e-4 < away < 0.2 if form == "onnx int8" else away < 1e-5, (form, away)
    assert math.isclose(model.megabytes["transformers"], 4e-6 * trained.parameter_count(), rel_tol=0.1)


def test_the_inference_benchmark_runs_on_small_models(shards, tmp_path):
    export_onnx(load_trained(run_on(shards, tmp_path)), tmp_path / "int8", int8=True)
    for name, layers in (("teacher", 4), ("student", 1)):
        shape = ModelConfig(300, 32, 32, layers, num_heads=2, intermediate_size=64, max_positions=64)
        dtype = torch.float16 if name == "student" else torch.float32
        save_huggingface(PretrainingModel(shape), tmp_path / name, pad_id=0, cls_id=2, sep_id=3, dtype=dtype)
    command = [
        sys.executable,
        str(ROOT / "benchmarks/inference.py"),
        *(str(tmp_path / n) for n in ("teacher", "student", "int8")),
    ]
    command += [
        "--lengths",
        "16",
        "64",
        "128",
        "--repeats",
        "1",
        "--batches",
        "1",
        "--output",
        str(tmp_path / "o.json"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures == json.loads((tmp_path / "o.json").read_text()) and figures["threads"] == [1]
    assert figures["commit"] == commit()  # though the command ran elsewhere
    assert (figures["batch"], figures["repeats"], figures["batches"], len(figures["load"])) == (32, 1, 1, 3)
    models = figures["models"]
    assert {name: its["stored"] for name, its in models.items()} == dict(teacher="F32", student="F16", int8="")
    assert [line for line in done.stdout.splitlines() if "speeds and memory are of fp32" in line] == [
        "student: its file holds F16; its speeds and memory are of fp32, which it is loaded into"
    ]
    forms = {name: list(its["megabytes"]) for name, its in models.items()}
    assert forms == dict(teacher=["litebert", "transformers"], student=["litebert", "transformers"], int8=["onnx int8"])
    for its in models.values():
        for key in ("latency_ms", "samples_per_s"):
            assert list(its[key]) == [f"{form}, 1 thread" for form in its["megabytes"]]
            for by_length in its[key].values():
                assert list(by_length) == ["16", "64"]  # 128 is more than they take
                assert all(0 < low <= median <= high for low, median, high in by_length.values())
        assert all(its["peak_megabytes"][form] > its["library_megabytes"][form] > 10 for form in its["megabytes"])
    assert models["int8"]["library_megabytes"]["onnx int8"] < models["student"]["library_megabytes"]["litebert"]
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("| litebert, 1 thread | student"))
    speeds = [models[name]["latency_ms"]["litebert, 1 thread"]["64"][1] for name in ("teacher", "student")]
    assert math.isclose(float(row.split("|")[4].split()[-1].rstrip("x")), speeds[0] / speeds[1], abs_tol=0.01)


def test_the_inference_benchmark_refuses_in_a_line_what_it_cannot_measure_or_write(
    benchmarks, tmp_path, monkeypatch, capsys
):
    inference, precious = benchmarks("inference"), tmp_path / "precious.jsonl"
    precious.write_text('{"text": "mine"}\n')
    finetuned = one_output(tmp_path / "finetuned", "logits")
    for model, output, said in (
        ("no", "new.json", f"{tmp_path / 'no'}: no model"),
        ("no", "missing/new.json", "missing/new.json: nothing can be written there: No such file"),
        ("no", "precious.jsonl", "precious.jsonl: it exists and holds no figures of this kind: give another file"),
        ("finetuned", "new.json", f"{finetuned}: its model.onnx gives no last_hidden_state, as that of a fine-tuned"),
    ):
        monkeypatch.setattr(sys, "argv", ["inference.py", str(tmp_path / model), "--output", str(tmp_path / output)])
        assert inference.main() == 2
        line = capsys.readouterr().err
        assert line.startswith("inference: ") and said in line and line.count("\n") == 1, line
    assert precious.read_text() == '{"text": "mine"}\n' and not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("--threads 0", "--threads 0: give 1 or more"),
        ("--lengths 32 0", "--lengths 0: give 1 or more"),
        ("--repeats 0 --batches 0", "--repeats 0: give 1 or more"),
        ("--batches -1", "--batches -1: give 1 or more"),
        ("--lengths 32 64 32", "--lengths 32 64 32: give each once"),
        ("{folder}/../model", "named twice; give each model once"),
        ("--lengths 128 256", "takes 64 tokens at most: give --lengths that it takes"),
    ],
)
def test_the_inference_benchmark_refuses_in_a_line_what_would_give_no_figures(
    asked, said, benchmarks, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "model"
    shape = ModelConfig(300, 32, 32, 1, num_heads=2, intermediate_size=64, max_positions=64)
    save_huggingface(PretrainingModel(shape), folder, pad_id=0, cls_id=2, sep_id=3)
    inference = benchmarks("inference")
    monkeypatch.setattr(inference, "measure", lambda models, options: pytest.fail("work was done"))
    monkeypatch.setattr(sys, "argv", ["inference.py", str(folder), *asked.format(folder=folder).split()])
    assert inference.main() == 2
    line = capsys.readouterr().err
    assert line.startswith("inference: ") and said in line and line.count("\n") == 1, line


def test_large_figures_are_written_out(benchmarks):
    shown = benchmarks("inference").shown
    figures = (12940.4, 999.96, 12.345, 0.012345)
    assert [shown(value) for value in figures] == ["12,940", "1000", "12.35", "0.01235"]


def one_output(folder: Path, name: str) -> Path:
    """A folder of an ONNX file that gives what it takes, by a name."""
    transformers.BertConfig(vocab_size=30, hidden_size=8, num_attention_heads=2).save_pretrained(folder)
    ids, same = (
        onnx.helper.make_tensor_value_info(each, onnx.TensorProto.INT64, ["batch", "length"])
        for each in ("input_ids", name)
    )
    node = onnx.helper.make_node("Identity", ["input_ids"], [name])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [ids], [same])), folder / "model.onnx")
    return folder


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
