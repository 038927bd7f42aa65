"""A run's model as a Hugging Face folder that opens without litebert, proven equal before it gets its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from data_tools.text.huggingface import save_tokenizer
from litebert.model.attention import Packing
from litebert.model.huggingface import save_huggingface
from litebert.train.trained import Trained

TOLERANCE = 1e-4
_PROBE_LENGTHS = (16, 9, 31, 2)


def export_huggingface(trained: Trained, output: Path) -> float:
    """Write config.json, model.safetensors and the tokenizer into a new folder.

    Returns:
        the largest difference of a logit between litebert's model and the folder's, on random inputs.

    Raises:
        ValueError: the folder exists, or the two models differ by more than TOLERANCE; then nothing is written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists; give another --output")
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    ids = trained.tokenizer.vocabulary
    save_huggingface(trained.model, partial, pad_id=ids.pad, cls_id=ids.cls, sep_id=ids.sep)
    config = trained.model.config
    save_tokenizer(trained.tokenizer, partial, config.max_positions, token_types=config.token_types > 0)
    difference = logit_difference(trained, partial)
    if not difference <= TOLERANCE:
        shutil.rmtree(partial)
        raise ValueError(
            f"the exported model's logits differ from the trained one's by {difference:.2g} (> {TOLERANCE:g})"
        )
    if output.exists():
        output.rmdir()
    partial.rename(output)
    return difference


def logit_difference(trained: Trained, folder: Path) -> float:
    """The largest absolute difference of any MLM or pair logit between a model and its exported folder, in fp32."""
    from transformers import AutoModelForPreTraining

    exported = AutoModelForPreTraining.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    config = trained.model.config
    lengths = torch.tensor([min(length, config.max_positions) for length in _PROBE_LENGTHS])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, mask.shape, generator=generator) * mask
    types = torch.randint(max(1, config.token_types), mask.shape, generator=generator) * mask
    with torch.inference_mode():
        packing = Packing.of(lengths.tolist())
        ours = trained.model(ids[mask], types[mask], packing, torch.arange(packing.tokens))
        segments = {"token_type_ids": types} if config.token_types else {}
        theirs = exported(input_ids=ids, attention_mask=mask.long(), **segments)
    mlm_logits = theirs["prediction_logits"] if "prediction_logits" in theirs else theirs["logits"]
    differences = [(ours.mlm_logits_MV - mlm_logits[mask]).abs().max()]
    pair_logits = theirs.get("sop_logits", theirs.get("seq_relationship_logits"))
    if ours.pair_logits_B2 is not None and pair_logits is not None:
        differences.append((ours.pair_logits_B2 - pair_logits).abs().max())
    return float(torch.stack(differences).max())
