"""A run's model as a Hugging Face folder that opens without litebert, proven equal before it gets its name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from data_tools.text.huggingface import save_tokenizer
from litebert.export.card import write_card
from litebert.export.exported import Exported
from litebert.export.folder import new_folder
from litebert.export.parity import largest_difference, proven
from litebert.model.encoder import ModelConfig
from litebert.model.huggingface import save_huggingface
from litebert.train.trained import Trained

LOADING = """\
from transformers import AutoModelForMaskedLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForMaskedLM.from_pretrained("{folder}")
inputs = tokenizer("今天天气很[MASK]。", return_tensors="pt")
print(tokenizer.decode(model(**inputs).logits[inputs.input_ids == tokenizer.mask_token_id].argmax(-1)))
"""


class Outputs(nn.Module):
    """A Hugging Face folder's model, in evaluation mode, whose outputs are those of `parity.OUTPUTS` in any family."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

        super().__init__()
        auto = AutoModelForPreTraining if config.pooler else AutoModelForMaskedLM
        self.model = auto.from_pretrained(folder, local_files_only=True)
        self.config = config
        self.eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        segments = {"token_type_ids": token_type_ids} if self.config.token_types > 1 else {}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, **segments)
        logits = output["prediction_logits"] if "prediction_logits" in output else output["logits"]
        words = (logits, output["hidden_states"][-1])
        if not self.config.pooler:
            return words
        return *words, output["sop_logits"] if "sop_logits" in output else output["seq_relationship_logits"]


def export_huggingface(trained: Trained, output: Path, half: bool = False) -> Exported:
    """Write config.json, model.safetensors, the tokenizer and a model card into a new folder.

    Args:
        half: whether the weights are kept in fp16, which transformers then computes in.

    Returns:
        what was written, and how exactly its model equals the trained one.

    Raises:
        ValueError: the folder exists, or the two models differ by more than the tolerance; then nothing is written.
    """
    with new_folder(output) as folder:
        write_huggingface(trained, folder, torch.float16 if half else torch.float32)
        written = Outputs(folder, trained.model.config)
        fidelity = proven(largest_difference(trained.model, lambda inputs: written(**inputs)), half)
        exported = Exported(f"safetensors, {'fp16' if half else 'fp32'}", "transformers", fidelity)
        write_card(folder, trained, exported, LOADING.format(folder=output.name))
    return exported


def write_huggingface(trained: Trained, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write config.json, model.safetensors and the tokenizer into a folder."""
    ids, config = trained.tokenizer.vocabulary, trained.model.config
    save_huggingface(trained.model, folder, pad_id=ids.pad, cls_id=ids.cls, sep_id=ids.sep, dtype=dtype)
    save_tokenizer(trained.tokenizer, folder, config.max_positions, token_types=config.token_types > 1)
