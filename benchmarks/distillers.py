"""What others have for DistilBERT's losses (Sanh et al. 2019): Hugging Face's models by hand, and TextBrewer.

Both take batches that are padded, make logits of every place and all words, and pick out the masked ones. TextBrewer
comes from PyPI into a folder of its own.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litebert.distill.config import DistillConfig
from litebert.objectives import ObjectiveConfig

SOFT, HARD = DistillConfig(precision="bf16"), ObjectiveConfig(mlm=2.0, sop=0.0)  # the paper's code's weights
TEXTBREWER = "textbrewer==0.2.1.post1"

Batch = dict[str, Tensor]


def hugging_face_losses(teacher: nn.Module, student: nn.Module, batch: Batch) -> Batch:
    """The losses at masked places, means: ``ce``, ``mlm``, ``cos``, and ``loss``, their weighted sum."""
    with torch.no_grad():
        told = teacher(**_teacher_inputs(batch), output_hidden_states=True)
    said = student(**_student_inputs(batch), output_hidden_states=True)
    masked = batch["labels"] != -100
    says = F.log_softmax(said.logits[masked] / SOFT.temperature, -1)
    asked = F.softmax(told.logits[masked] / SOFT.temperature, -1)
    ce = F.kl_div(says, asked, reduction="batchmean") * SOFT.temperature**2
    cosine = F.cosine_similarity(said.hidden_states[-1][masked], told.hidden_states[-1][masked], -1)
    losses = {"ce": ce, "mlm": said.loss, "cos": 1 - cosine.mean()}
    return losses | {"loss": SOFT.ce * ce + HARD.mlm * said.loss + SOFT.cos * losses["cos"]}


def textbrewer_loss(
    textbrewer: ModuleType, teacher: nn.Module, student: nn.Module, folder: Path, device: torch.device
) -> Callable[[Batch], Tensor]:
    """The loss that its GeneralDistiller trains on; its ``ce`` exceeds ours by the teacher's entropy.

    Args:
        folder: where it would write.
    """

    def told(batch: Batch, said: Any) -> dict[str, Any]:
        return {"logits": said.logits, "hidden": said.hidden_states, "logits_mask": batch["masked"]}

    def says(batch: Batch, said: Any) -> dict[str, Any]:
        masked = batch["labels"] != -100
        return told({"masked": masked}, said) | {"inputs_mask": masked, "losses": said.loss}

    last = {"layer_T": len(_layers(teacher)), "layer_S": len(_layers(student))}
    distiller = textbrewer.GeneralDistiller(
        textbrewer.TrainingConfig(output_dir=str(folder), device=device),
        textbrewer.DistillationConfig(
            temperature=SOFT.temperature,
            kd_loss_weight=SOFT.ce * SOFT.temperature**2,
            hard_label_weight=HARD.mlm,
            intermediate_matches=[{**last, "feature": "hidden", "loss": "cos", "weight": SOFT.cos}],
        ),
        lambda masked, **inputs: teacher(**inputs, output_hidden_states=True),
        lambda **inputs: student(**inputs, output_hidden_states=True),
        told,
        says,
    )

    def loss(batch: Batch) -> Tensor:
        masked = {"masked": batch["labels"] != -100}
        asked = {"teacher": _teacher_inputs(batch) | masked, "student": _student_inputs(batch)}
        total: Tensor = distiller.train_on_batch(asked, {})[0]
        return total

    return loss


def find_textbrewer(cache: Path, install: bool) -> ModuleType | None:
    """TextBrewer, installed without what it depends on, which is here; None, and why, where it cannot be had."""
    folder = cache / "textbrewer"
    if install and not (folder / "complete").exists():
        command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        try:
            subprocess.run(
                [*command, "--upgrade", "--target", str(folder), TEXTBREWER], check=True, capture_output=True
            )
        except (subprocess.CalledProcessError, OSError) as error:
            reason = (getattr(error, "stderr", None) or str(error).encode()).decode().strip()
            print(f"{TEXTBREWER}: skipped, {reason.splitlines()[-1]}")
            return None
        (folder / "complete").touch()
    if not (folder / "complete").exists():
        print(f"{TEXTBREWER}: skipped, it is not in {folder}")
        return None
    sys.path.append(str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was written for older Pythons
        import textbrewer
    return textbrewer


def _teacher_inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}


def _student_inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def _layers(model: Any) -> nn.ModuleList:
    return model.bert.encoder.layer if hasattr(model, "bert") else model.distilbert.transformer.layer
