"""The benchmark of encoders: its forms give the same, it says what it is to say, and refuses the rest in a line."""

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

from litebert.export.onnx_folder import export_onnx
from litebert.model import ModelConfig, Packing, PretrainingModel, save_huggingface
from litebert.train.commit import commit
from litebert.train.trained import load_trained
from tests.litebert.export.test_export import run_on

ROOT = Path(__file__).parents[1]


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
    export_onnx(load_trained(run_on(shards, tmp_path)), tmp_path / "int8", weights="int8")
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
