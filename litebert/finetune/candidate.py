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
from safetensors import SafetensorError

from data_tools.shards.tar import sha256
from litebert.export.huggingface import export_huggingface
from litebert.train.trained import load_trained

CONFIG, WEIGHTS = "config.json", "*.safetensors"
FAMILIES = "ALBERT, BERT, DistilBERT, ELECTRA, RoBERTa or XLM-R"  # what is known to work
# Families whose first position is the one after the padding's.
PADDED = (
    "camembert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
POOLER = "pooler"  # the module of an encoder that pretraining may have left out


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pretrained encoder and its tokenizer.

    Attributes:
        location: where the user has it.
        folder: where transformers reads it.
        fingerprint: SHA-256 of weights, shape and tokenizer, in hex.
        shape: SHA-256 of shape and tokenizer, in hex: what random weights of its shape depend on.
        labels: names of what it gives; of a model that was not fine-tuned, none of anything.
        tokenizer: a fast one of transformers.
        positions: tokens of its longest input.
    """

    location: Path
    folder: Path
    fingerprint: str
    shape: str
    labels: tuple[str, ...]
    tokenizer: Any
    positions: int

    @classmethod
    @contextlib.contextmanager
    def opened(cls, location: Path) -> Iterator[Candidate]:
        """Opens a run, a checkpoint or a Hugging Face folder; the former two are exported for as long as it is open.

        Raises ValueError where there is none of these, its weights are pickled, or its tokenizer is of another model.
        """
        if (location / CONFIG).is_file():
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
    def read(cls, location: Path) -> Candidate:
        """Opens a Hugging Face folder. Raises ValueError as ``opened`` does."""
        if not (location / CONFIG).is_file():
            raise ValueError(f"{location}: no {CONFIG} in it: give a Hugging Face folder")
        return cls._read(location, location)

    @classmethod
    def _read(cls, location: Path, folder: Path) -> Candidate:
        weights = sorted(folder.glob(WEIGHTS))
        if not weights and (folder / "model.onnx").is_file():
            raise ValueError(f"{location}: an exported ONNX file: give the folder it was made of")
        if not weights:
            raise ValueError(f"{location}: no {WEIGHTS} in it; pickled weights are not read: save them as safetensors")
        config, tokenizer = _described(location, folder)
        if not tokenizer.is_fast:
            raise ValueError(f"{location}: its tokenizer does not say where its tokens stand: give it a tokenizer.json")
        if (ids := 1 + max(tokenizer.get_vocab().values())) > config.vocab_size:
            raise ValueError(
                f"{location}: its tokenizer has {ids:,} ids, and its embeddings have {config.vocab_size:,}: give it "
                "the tokenizer that it was trained with"
            )
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        shape = _digest([folder / CONFIG], tokenizer.backend_tokenizer.to_str())
        positions = min(_positions(location, config), tokenizer.model_max_length)
        labels = tuple(config.id2label[number] for number in sorted(config.id2label))
        return cls(location, folder, _digest(weights, shape), shape, labels, tokenizer, positions)

    @property
    def reading(self) -> dict[str, Any]:
        """What of its rows depends on more than its fingerprint."""
        return {"positions": self.positions, "inputs": list(self.tokenizer.model_input_names)}

    def begun(self, head: str, outputs: Sequence[str], random: bool) -> Any:
        """The model, in fp32, with a new head of one of transformers' classes, whatever head it was fine-tuned with.

        Args:
            head: name of the class.
            outputs: names of what it gives.
            random: whether its other weights are drawn anew as well.

        Raises:
            ValueError: the folder has not all of the encoder's weights, or they are damaged.
        """
        names = dict(enumerate(outputs))
        config = self._config(num_labels=len(outputs))
        config.id2label, config.label2id = names, {name: number for number, name in names.items()}
        if random:
            return getattr(transformers, head).from_config(config, dtype=torch.float32)
        model, missing = self._loaded(head, config)
        encoder = f"{model.base_model_prefix}."
        if lost := [name for name in missing if name.startswith(encoder) and POOLER not in name.split(".")]:
            raise ValueError(f"{self.location}: weights are missing: {', '.join(lost[:3])} ({len(lost)} in all)")
        if any(not name.startswith(encoder) for name in model.state_dict().keys() - set(missing)):
            fresh = getattr(transformers, head).from_config(config, dtype=torch.float32)
            for name, module in fresh.named_children():
                if name != model.base_model_prefix:
                    setattr(model, name, module)
        return model

    def finetuned(self, head: str) -> Any:
        """The model, in fp32, with the head of one of transformers' classes that it has.

        Raises ValueError where it has no such head, or lacks other weights.
        """
        model, missing = self._loaded(head, self._config())
        if missing:
            raise ValueError(f"{self.location}: not fine-tuned as {head}: {missing[0]} is missing")
        return model

    def _config(self, **more: Any) -> Any:
        """Its config, of a model that gives its head's outputs and no others."""
        hidden = {"output_hidden_states": False, "output_attentions": False}
        return transformers.AutoConfig.from_pretrained(self.folder, local_files_only=True, **hidden, **more)

    def _loaded(self, head: str, config: Any) -> tuple[Any, list[str]]:
        """The model, and names of weights that it lacks. Raises ValueError where they are not whole."""
        try:
            model, loading = getattr(transformers, head).from_pretrained(
                self.folder,
                config=config,
                local_files_only=True,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # the head of a model that was fine-tuned on another task
                output_loading_info=True,
            )
        except SafetensorError as error:
            raise ValueError(f"{self.location}: its weights cannot be read: {error}") from None
        return model, sorted({*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])})


def _described(location: Path, folder: Path) -> tuple[Any, Any]:
    """The config and the tokenizer of a folder. Raises ValueError where transformers cannot read them."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        return config, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of any kind, where files are not as transformers writes them
        said = " ".join(str(error).split())
        raise ValueError(
            f"{location}: its {CONFIG} or its tokenizer is damaged ({said}): copy the model again"
        ) from None


def _positions(location: Path, config: Any) -> int:
    """Tokens that a model has positions for. Raises ValueError where these are of no fixed number."""
    positions = getattr(config, "max_position_embeddings", 0)
    if config.model_type in PADDED:
        positions -= config.pad_token_id + 1
    if positions < 1:
        raise ValueError(f"{location}: a model of type {config.model_type} has no fixed positions: give {FAMILIES}")
    return int(positions)


def _digest(files: Sequence[Path], more: str) -> str:
    return hashlib.sha256("\0".join([*(f"{path.name} {sha256(path)}" for path in files), more]).encode()).hexdigest()
