"""What a fine-tuned model says of rows, by Hugging Face's Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from litebert.finetune.config import FinetuneConfig
from litebert.finetune.family import TARGETS, Family, Floats


def predicted(
    model: Any, tokenizer: Any, family: Family, rows: Sequence[dict[str, Any]], config: FinetuneConfig
) -> tuple[Floats, ...]:
    """Logits [rows, ...], padded at their end; of a span, of starts and of ends.

    Rows are read from the longest to the shortest, so that batches hold little padding.
    """
    order = np.argsort([-len(row["input_ids"]) for row in rows], kind="stable")
    asked = [{name: values for name, values in rows[row].items() if name not in TARGETS} for row in order]
    with tempfile.TemporaryDirectory(prefix="litebert-") as folder:
        trainer = transformers.Trainer(
            model,
            arguments(config, folder),
            data_collator=getattr(transformers, family.collator)(tokenizer),
            processing_class=tokenizer,
        )
        said = trainer.predict(asked).predictions
    outputs: list[Floats] = []
    for logits in said if isinstance(said, tuple) else (said,):
        outputs.append(np.empty_like(logits))
        outputs[-1][order] = logits
    return tuple(outputs)


def arguments(config: FinetuneConfig, folder: str, **more: Any) -> Any:
    """The settings of a Trainer that writes and prints nothing, here."""
    made = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config.batch,
        per_device_eval_batch_size=2 * config.batch,
        use_cpu=device() == "cpu",
        bf16=config.resolved.precision == "bf16",
        dataloader_pin_memory=device() == "cuda",
        average_tokens_across_devices=False,  # losses are means of their batch already
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )
    assert made.device.type == device()  # the first look at it counts the GPUs
    made._n_gpu = min(1, made.n_gpu)  # on more the Trainer would multiply the batch by their number
    return made


def device() -> str:
    """What a fine-tuning runs on."""
    return "cuda" if torch.cuda.is_available() else "cpu"
