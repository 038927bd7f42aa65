"""A model that is to be evaluated on tasks: a Hugging Face folder, whatever it was made by."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from data_tools.shards.tar import sha256
from litebert.export.huggingface import export_huggingface
from litebert.train.trained import load_trained

WEIGHTS = "*.safetensors"
# Modules that pretraining may have left out, learnt by fine-tuning.
NEW = ("pooler", "pre_classifier", "classifier", "qa_outputs")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pretrained encoder and its tokenizer.

    Attributes:
        location: where the user has it.
        folder: where transformers reads it.
        fingerprint: SHA-256 of weights, shape and tokenizer, in hex.
        shape: SHA-256 of shape and tokenizer, in hex: what random weights of its shape depend on.
        tokenizer: a fast one of transformers.
        positions: tokens of its longest input.
    """

    location: Path
    folder: Path
    fingerprint: str
    shape: str
    tokenizer: Any
    positions: int

    @classmethod
    @contextlib.contextmanager
    def opened(cls, location: Path) -> Iterator[Candidate]:
        """Opens a run, a checkpoint or a Hugging Face folder; the former two are exported for as long as it is open.

        Raises ValueError where there is none of these, or its weights are pickled.
        """
        if (location / "config.json").is_file():
            yield cls._read(location, location)
            return
        if not any((location / name).is_file() for name in ("run.json", "checkpoint.json")):
            raise ValueError(
                f"{location}: no model (no run.json, checkpoint.json or config.json): give a run, a checkpoint of one, "
                "or a Hugging Face folder"
            )
        with tempfile.TemporaryDirectory(prefix="litebert-") as folder:
            exported = Path(folder) / "model"
            export_huggingface(load_trained(location), exported)
            yield cls._read(location, exported)

    @classmethod
    def _read(cls, location: Path, folder: Path) -> Candidate:
        weights = sorted(folder.glob(WEIGHTS))
        if not weights:
            raise ValueError(f"{location}: no {WEIGHTS} in it; pickled weights are not read: save them as safetensors")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not tokenizer.is_fast:
            raise ValueError(f"{location}: its tokenizer does not say where its tokens stand: give it a tokenizer.json")
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        shape = _digest([folder / "config.json"], tokenizer.backend_tokenizer.to_str())
        positions = min(config.max_position_embeddings, tokenizer.model_max_length)
        return cls(location, folder, _digest(weights, shape), shape, tokenizer, positions)

    def begun(self, head: str, outputs: Sequence[str], random: bool) -> Any:
        """The model, in fp32, with a new head of one of transformers' classes.

        Args:
            head: name of the class.
            outputs: names of what it gives.
            random: whether its other weights are drawn anew as well.

        Raises:
            ValueError: the folder has not all of the encoder's weights.
        """
        kind = getattr(transformers, head)
        names = dict(enumerate(outputs))
        config = transformers.AutoConfig.from_pretrained(self.folder, local_files_only=True, num_labels=len(outputs))
        config.id2label, config.label2id = names, {name: number for number, name in names.items()}
        if random:
            return kind.from_config(config, dtype=torch.float32)
        model, loading = kind.from_pretrained(
            self.folder,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
        if missing := sorted(name for name in loading["missing_keys"] if not set(name.split(".")) & set(NEW)):
            raise ValueError(f"{self.location}: weights are missing: {', '.join(missing[:3])} ({len(missing)} in all)")
        return model


def _digest(files: Sequence[Path], more: str) -> str:
    return hashlib.sha256("\0".join([*(f"{path.name} {sha256(path)}" for path in files), more]).encode()).hexdigest()
