"""From a run to a folder that opens where litebert is not, and equals it there."""

import json
import math
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from data_tools.build import build
from data_tools.shards.manifest import Manifest
from data_tools.text.tokenizer import Tokenizer
from litebert.data.split import Split
from litebert.export import huggingface, onnx_graph, parity
from litebert.export.card import page
from litebert.export.exported import Exported
from litebert.export.fidelity import Fidelity, heldout
from litebert.export.huggingface import export_huggingface
from litebert.export.onnx_file import processor_of_int8
from litebert.export.onnx_folder import export_onnx
from litebert.model.attention import Packing
from litebert.plan.processor import processor
from litebert.recipe import Recipe, parse_command
from litebert.train.checkpoint import Retention, publish
from litebert.train.run import RunFolder
from litebert.train.trained import Trained, load_trained

REPOSITORY = Path(__file__).parents[3]
FORMATS: dict[str, Callable[[Trained, Path], Exported]] = {
    "hf": export_huggingface,
    "half": partial(export_huggingface, half=True),
    "onnx": export_onnx,
    "onnx16": partial(export_onnx, weights="fp16"),
    "int8": partial(export_onnx, weights="int8"),
}
STRANGER = """
import json, sys, torch
sys.modules["litebert"] = sys.modules["data_tools"] = None  # as if they were not there
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer
folder, text, other = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer(text, other, return_tensors="pt")
masked, loading = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
assert not loading["missing_keys"], loading
pretraining, loading = AutoModelForPreTraining.from_pretrained(folder, output_loading_info=True)
assert not loading["missing_keys"] and not loading["unexpected_keys"], loading
with torch.inference_mode():
    output = pretraining.eval()(**inputs)
    same = masked.eval()(**inputs).logits
assert torch.equal(same, output.prediction_logits)
print(json.dumps({
    "ids": inputs["input_ids"][0].tolist(), "types": inputs["token_type_ids"][0].tolist(),
    "mlm": output.prediction_logits[0].tolist(), "sop": output.sop_logits[0].tolist(),
    "mask": tokenizer.mask_token_id, "max_length": tokenizer.model_max_length,
}))
"""


@pytest.fixture
def run(shards, tmp_path) -> Path:
    return run_on(shards, tmp_path)


def run_on(shards: Path, tmp_path: Path) -> Path:
    """A run folder with one checkpoint, of weights that are all random."""
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(
        "model: {hidden_size: 32, embedding_size: 16, num_layers: 3, num_heads: 2, intermediate_size: 64,"
        " max_positions: 64}\ntrain: {steps: 200}\n"
    )
    folder = tmp_path / "run"
    arguments = ["--config", str(recipe_file), "--data", str(shards), "--run", str(folder)]
    recipe: Recipe = parse_command(arguments, "").recipe
    split = Split(shards, "train")
    fingerprints = {"data": split.fingerprint, "tokenizer": split.tokenizer_fingerprint}
    run_folder = RunFolder(folder, fingerprints, recipe)
    run_folder.prepare(shards / "tokenizer")
    torch.manual_seed(1)
    model = huggingface_sized(recipe, split.vocab_size)
    weights = {f"model.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    publish(folder, 100, {"weights": weights}, run_folder.record, Retention(1))
    return folder


def huggingface_sized(recipe: Recipe, vocab_size: int):
    from litebert.model.heads import PretrainingModel

    model = PretrainingModel(recipe.model_config(vocab_size))
    with torch.no_grad():
        for parameter in model.parameters():  # also biases and norms, which are born alike
            parameter.normal_(std=0.3)
    return model


def test_a_stranger_reads_the_folder_and_gets_the_same_logits(run, tmp_path):
    trained = load_trained(run)
    fidelity = export_huggingface(trained, tmp_path / "export").fidelity
    said = re.fullmatch(r"outputs within (\S+) of the trained model's, in units of .* \((\S+) absolute\)", fidelity)
    assert said and 1e-9 < float(said[1]) < 1e-5 and 1e-9 < float(said[2]) < 1e-4
    text, other = "学生喜欢研究Ｗｏｒｄ。", "老师报道历史！"
    (tmp_path / "stranger.py").write_text(STRANGER)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, tmp_path / "stranger.py", tmp_path / "export", text, other],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    tokenizer = trained.tokenizer
    a, b = (tokenizer.encode([piece]).ids.tolist() for piece in ("学生喜欢研究word。", other))
    assert theirs["ids"] == [2, *a, 3, *b, 3] and theirs["mask"] == 4 and theirs["max_length"] == 64
    assert theirs["types"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    ids = torch.tensor(theirs["ids"])
    with torch.inference_mode():
        ours = trained.model(ids, torch.tensor(theirs["types"]), Packing.of([len(ids)]), torch.arange(len(ids)))
    np.testing.assert_allclose(ours.mlm_logits_MV, theirs["mlm"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.pair_logits_B2[0], theirs["sop"], rtol=0, atol=1e-4)


def test_a_wordpiece_run_is_exported_with_its_own_special_ids(corpus, wordpiece_folder, build_config, tmp_path):
    build([corpus], wordpiece_folder, tmp_path / "shards", build_config)
    trained = load_trained(run_on(tmp_path / "shards", tmp_path))
    export_huggingface(trained, tmp_path / "export")
    (tmp_path / "stranger.py").write_text(STRANGER)
    done = subprocess.run(
        [sys.executable, tmp_path / "stranger.py", tmp_path / "export", "学生喜欢Hello。", "老师！"],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs, ids = json.loads(done.stdout), trained.tokenizer.vocabulary
    a, b = (trained.tokenizer.encode([piece]).ids.tolist() for piece in ("学生喜欢Hello。", "老师！"))
    assert theirs["ids"] == [ids.cls, *a, ids.sep, *b, ids.sep] and theirs["mask"] == ids.mask != 4
    described = json.loads((tmp_path / "export" / "config.json").read_text())
    assert (described["bos_token_id"], described["eos_token_id"]) == (ids.cls, ids.sep)


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_is_not_the_model_is_refused(form, run, tmp_path, monkeypatch):
    trained = load_trained(run)

    def spoiled(model, folder, **ids):
        with torch.no_grad():
            model.mlm.bias[7] += 1
        real(model, folder, **ids)
        with torch.no_grad():
            model.mlm.bias[7] -= 1

    real = huggingface.save_huggingface
    monkeypatch.setattr(huggingface, "save_huggingface", spoiled)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"outputs differ from the trained one's by [\d.]+.*: nothing is written"):
        FORMATS[form](trained, tmp_path / "export")
    assert sorted(tmp_path.iterdir()) == before


def test_a_small_difference_is_refused_in_fp32(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "FP32_TOLERANCE", 1e-9)
    with pytest.raises(ValueError, match=r"\(> 1e-09\), \S+ absolute: nothing is written$"):
        export_huggingface(load_trained(run), tmp_path / "export")


def test_weights_that_fp16_cannot_hold_are_refused(run, tmp_path):
    trained = load_trained(run)
    with torch.no_grad():
        trained.model.get_parameter("encoder.ffn.0.up.weight")[3, 3] = 1e6
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"by nan .*; export it without --half"):
        export_huggingface(trained, tmp_path / "export", half=True)
    assert sorted(tmp_path.iterdir()) == before


def test_half_is_half_the_size(run, tmp_path):
    trained = load_trained(run)
    sizes = []
    for half in (False, True):
        export_huggingface(trained, tmp_path / f"export{half}", half)
        sizes.append((tmp_path / f"export{half}" / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]


def test_the_card_says_what_the_run_was(run, shards, tmp_path):
    record = json.loads((run / "run.json").read_text())
    record |= {"data": [str(shards)], "devices": "2 x H100", "commit": "c0ffee"}
    record["fingerprints"]["teacher"] = "7ea" * 20
    (run / "run.json").write_text(json.dumps(record))
    with SummaryWriter(str(run / "tensorboard")) as events:
        events.add_scalar("loss", 1.0, 2, walltime=time.time() + 5400)
    lines = [{"step": step, "heldout_mlm": step / 100, "heldout_sop_accuracy": 0.5} for step in (50, 100, 150)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"step": 160}]))
    trained, split = load_trained(run), Manifest.load(shards).splits["train"]
    fidelity = export_huggingface(trained, tmp_path / "export").fidelity
    card = (tmp_path / "export" / "README.md").read_text()
    for part in (
        "albert, 3 layers of width 32",
        f"{trained.model.parameter_count():,}",
        "100 steps",
        trained.data_fingerprint,
        "MLM loss, on held-out documents, at step 100 | 1.0000 nats",
        "at step 100 | 50.0%",
        f"| trained on | {split.documents:,} documents, {split.tokens:,} tokens |",
        f"| teacher | fingerprint {'7ea' * 20} |",
        "| began on | 2 x H100 |",
        "| cost | 1.50 hours to step 160 |",
        f"torch {torch.__version__}",
        "| commit | c0ffee |",
        fidelity,
    ):
        assert part in card, part
    assert "step 150" not in card and "# license: yours to choose" in card
    (run / "run.json").write_text("[]")  # which the weights do not need
    export_huggingface(trained, tmp_path / "again")
    assert "| run | its own record cannot be read |" in (tmp_path / "again" / "README.md").read_text()


def test_a_card_shows_any_text_in_its_cell():
    facts = {"labels": "a|b, <img src=x>\n# c, &lt;"}
    base = 'a: "b" #'
    card = page("x <b>", facts, "", pipeline="fill-mask", family="bert", library="onnx", base=base)
    assert "| labels | a&#124;b, &lt;img src=x&gt; # c, &amp;lt; |\n" in card and "# x &lt;b&gt;\n" in card
    assert yaml.safe_load(card.split("---")[1]) == {
        "language": "zh",
        "library_name": "onnx",
        "pipeline_tag": "fill-mask",
        "tags": ["bert", "litebert"],
        "base_model": base,
    }


def test_int8_is_measured_on_held_out_text(run, shards, tmp_path):
    split = Split(shards, "heldout")
    batches = list(heldout(split))
    exported = export_onnx(load_trained(run), tmp_path / "export", weights="int8", text=heldout(split))
    assert f"over {sum(len(batch.masked) for batch in batches):,} masked tokens" in exported.fidelity


def test_the_card_of_int8_says_where_it_was_measured_and_who_opens_it(run, tmp_path, monkeypatch):
    processors = {
        "without VNNI": {"architecture": "x86_64", "avx512_vnni": False, "avx_vnni": False},
        "with VNNI": {"architecture": "x86_64", "avx512_vnni": False, "avx_vnni": True},
        "": {"architecture": "aarch64"},
    }
    for number, (said, has) in enumerate(processors.items()):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert processor_of_int8() == f"{processor()}, {said}".removesuffix(", "), number
    export_onnx(load_trained(run), tmp_path / "int8", weights="int8")
    export_onnx(load_trained(run), tmp_path / "fp32")
    cards = [(tmp_path / form / "README.md").read_text() for form in ("int8", "fp32")]
    assert f"| int8 measured on | {processor()} |" in cards[0] and "measured on" not in cards[1]
    assert all("library_name: onnx\n" in card for card in cards)


def test_int8_that_is_another_model_is_said_aloud_and_in_the_card(run, tmp_path, monkeypatch, capsys):
    for kl, agreement, remarked in ((0.1, 0.9, False), (0.6, 0.9, True), (0.1, 0.4, True), (math.nan, 0.9, True)):
        assert bool(Fidelity(kl, agreement, 70).remark) == remarked
    monkeypatch.setattr("litebert.export.onnx_folder.measure", lambda *_: Fidelity(9.5, 0.0, 70))
    arguments = [str(run), "--output", str(tmp_path / "export"), "--format", "onnx", "--quantize", "int8"]
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    assert runpy.run_path(str(REPOSITORY / "launcher" / "export.py"))["main"]() == 0
    said = capsys.readouterr().err.splitlines()[-1]  # after what transformers says of its progress
    assert said.startswith("export: BEWARE: in int8 this is another model (KL 9.5 nats, same likeliest word 0%): leave")
    card = (tmp_path / "export" / "README.md").read_text()
    assert f"| beware | {said.removeprefix('export: BEWARE: ')} |" in card


def test_an_onnx_file_has_an_end(run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"an ONNX file 2 GB: use a Hugging Face folder"):
        export_onnx(load_trained(run), tmp_path / "export")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "onnx", "--half", "--quantize", "int8"], "--half and --quantize int8 are two forms of weights"),
        (["--quantize", "int8"], "--quantize int8 is for --format onnx"),
        (["--data", "shards"], "--data is what --quantize int8 is measured on"),
        (["--format", "onnx"], "--format onnx needs onnx, which is not installed: pip install"),
    ],
)
def test_the_command_says_in_a_line_what_it_cannot_do(flags, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in ("litebert.export.onnx_folder", "litebert.export.onnx_graph"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["export.py", str(run), "--output", str(tmp_path / "export"), *flags])
    assert runpy.run_path(str(REPOSITORY / "launcher" / "export.py"))["main"]() == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "export").exists()


def test_nothing_is_overwritten_and_what_is_no_run_is_named(run, tmp_path):
    trained: Trained = load_trained(run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not touch")
    with pytest.raises(ValueError, match=r"full exists; give another --output"):
        export_huggingface(trained, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="not a run folder"):
        load_trained(tmp_path / "full")


def test_a_checkpoint_of_another_tokenizer_is_refused(run):
    model = run / "tokenizer" / "tokenizer.model"
    changed = Tokenizer.load(run / "tokenizer").model + b"\x10\x00"
    model.write_bytes(changed)
    with pytest.raises(ValueError, match=r"tokenizer/ is .*, its checkpoint was made with"):
        load_trained(run)
