"""Opens exported folders where litebert cannot be imported: run in a process of its own, it says what it found as JSON.

Its arguments are folders, each with `asked.npz` beside what was exported: padded input_ids, attention_mask and
token_type_ids, and what the trained model makes of them: logits, hidden and perhaps pair.
"""

import contextlib
import importlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

OURS = ("litebert", "data_tools", "launcher")


class Wall:
    """Lets nothing of ours be imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] in OURS:
            raise ModuleNotFoundError(f"{name} is not here")


def prove_alone() -> None:
    for name in OURS:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        raise AssertionError(f"{name} can be imported")


def differences(found: dict[str, Any], asked: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """By output, the largest difference at a real token, and the largest number there is."""
    valid = asked["attention_mask"].astype(bool)
    compared = {}
    for name, value in found.items():
        mine, theirs = asked[name], np.asarray(value, np.float32)
        if name != "pair":
            mine, theirs = mine[valid], theirs[valid]
        compared[name] = {"difference": float(np.abs(mine - theirs).max()), "largest": float(np.abs(mine).max())}
    return compared


def open_huggingface(folder: Path, asked: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch
    import transformers as hf

    names = hf.AutoTokenizer.from_pretrained(folder).model_input_names
    inputs = {name: torch.from_numpy(asked[name]) for name in names}
    answers, missing = {}, {}
    for auto in ("AutoModel", "AutoModelForMaskedLM", "AutoModelForPreTraining", "AutoModelForSequenceClassification"):
        model, info = getattr(hf, auto).from_pretrained(folder, output_loading_info=True)
        with torch.inference_mode():
            answers[auto] = model.eval()(**inputs)
        missing[auto] = sorted(info["missing_keys"])
        dtype = str(model.dtype)
    logits = answers["AutoModelForMaskedLM"]["logits"].float()
    found = {"logits": logits, "hidden": answers["AutoModel"]["last_hidden_state"].float()}
    pretraining = answers["AutoModelForPreTraining"]
    if "pair" in asked:
        pair = pretraining["sop_logits"] if "sop_logits" in pretraining else pretraining["seq_relationship_logits"]
        found["pair"] = pair.float()
        assert torch.equal(pretraining["prediction_logits"].float(), logits)
    classes = answers["AutoModelForSequenceClassification"]["logits"]
    assert classes.shape == (len(asked["input_ids"]), 2) and classes.isfinite().all()
    return {"outputs": differences(found, asked), "missing": missing, "dtype": dtype}


def open_onnx(folder: Path, asked: dict[str, np.ndarray]) -> dict[str, Any]:
    import onnx
    import onnxruntime
    from transformers import AutoTokenizer

    names = AutoTokenizer.from_pretrained(folder).model_input_names
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    assert {entry.name for entry in session.get_inputs()} == set(names)

    def run(prefix: str = "") -> dict[str, Any]:
        answers = session.run(None, {name: asked[prefix + name] for name in names})
        by_name = dict(zip([entry.name for entry in session.get_outputs()], answers, strict=True))
        renamed = {"logits": "logits", "last_hidden_state": "hidden", "pair_logits": "pair"}
        return {renamed[name]: value for name, value in by_name.items()}

    (opset,) = (entry.version for entry in onnx.load(folder / "model.onnx").opset_import if not entry.domain)
    result: dict[str, Any] = {"outputs": differences(run(), asked), "opset": opset}
    mine, theirs = map(log_softmax, (asked["text_logits"], run("text_")["logits"][asked["text_masked"]]))
    result["kl"] = float((np.exp(mine) * (mine - theirs)).sum(-1).mean())
    result["agreement"] = float((mine.argmax(-1) == theirs.argmax(-1)).mean())
    return result


def log_softmax(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def run_card(folder: Path) -> str:
    """What the card's own lines print."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


def main(folders: list[Path]) -> None:
    sys.meta_path.insert(0, Wall())
    prove_alone()
    results = {}
    for folder in folders:
        with np.load(folder / "asked.npz") as file:
            asked = dict(file)
        opened = open_onnx if (folder / "model.onnx").exists() else open_huggingface
        results[folder.name] = opened(folder, asked) | {"printed": run_card(folder)}
    prove_alone()
    print(json.dumps(results))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
