"""A teacher: any model that this project can read, on its own encoder, frozen.

Shape suffixes: B = samples, M = masked positions, T = packed tokens, R = M or T, H = hidden size.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer as FastTokenizer

from data_tools.text.huggingface import KINDS, load_tokenizer
from litebert.data.batch import MicroBatch
from litebert.distill.codecs import TeacherHead
from litebert.distill.states import States, Wanted, states
from litebert.distill.targets import Dense
from litebert.model.heads import PretrainingModel
from litebert.model.huggingface import from_huggingface
from litebert.plan.devices import computes_bf16
from litebert.train.trained import load_trained

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # that it can compute in
NAMED = 3  # differing entries of two vocabularies


def usual_precision(device: torch.device) -> str:
    """What a teacher computes in where nobody says: bf16 on a GPU that has it, as the recipes have it, else fp32."""
    return "bf16" if device.type == "cuda" and computes_bf16(device) else "fp32"


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A model that answers and does not learn.

    Attributes:
        location: where it was found.
        model: in evaluation mode, without gradients.
        fingerprint: SHA-256 of shape and weights as they were read, in hex.
    """

    location: Path
    model: PretrainingModel
    fingerprint: str

    @classmethod
    def load(cls, location: Path, pieces: tuple[str, ...]) -> Teacher:
        """Reads a teacher, in fp32, on the CPU.

        Args:
            location: a run of litebert, one of its checkpoints, or a Hugging Face folder of a BERT, RoBERTa-zh, ALBERT
                or DistilBERT with a masked-word head.
            pieces: of the vocabulary that it must have, by id.

        Raises:
            ValueError: it is none of these, or has weights that are no numbers, or another vocabulary, whose first
                differing entries are named.
        """
        model, own = _read(location)
        _check_vocabulary(location, model.config.vocab_size, own, pieces)
        if broken := [name for name, weight in model.named_parameters() if not weight.isfinite().all()]:
            raise ValueError(
                f"{location}: not all of its weights are finite ({len(broken)}, {broken[0]} the first): its training "
                "went bad, or the file is damaged: give a sound teacher"
            )
        return cls(location, model.eval().requires_grad_(False), fingerprint(model))

    def check_length(self, seq_length: int) -> None:
        """Raises ValueError where the data's longest samples are too long for it."""
        if (most := self.model.config.max_positions) < seq_length:
            raise ValueError(
                f"{self.location} takes {most} tokens, the data's longest samples have {seq_length}: build them with "
                f"pairs.seq_length {most}"
            )

    def to(self, device: torch.device, dtype: torch.dtype) -> Teacher:
        """The same, to compute on a device and in a dtype; it moves there."""
        return dataclasses.replace(self, model=self.model.to(device, dtype))

    @torch.no_grad()
    def read(self, batch: MicroBatch, wanted: Wanted) -> States:
        """One forward pass."""
        return states(self.model, batch, wanted)

    @torch.no_grad()
    def words(self, read: States) -> Dense:
        """Its distributions of words, exact."""
        head = TeacherHead.of(self.model)
        return head.dense(head.transform(read.words_RH))

    @torch.no_grad()
    def pairs(self, read: States) -> torch.Tensor:
        """What its pair head says: logits [B, 2]."""
        assert self.model.pair is not None and read.first_BH is not None
        logits_B2: torch.Tensor = self.model.pair(read.first_BH)
        return logits_B2


def _read(location: Path) -> tuple[PretrainingModel, tuple[str, ...]]:
    """A model and its vocabulary."""
    if (location / "config.json").is_file():
        return from_huggingface(location), _pieces(location)
    if (location / "run.json").is_file() or (location / "checkpoint.json").is_file():
        trained = load_trained(location)
        return trained.model, trained.tokenizer.pieces
    raise ValueError(
        f"{location}: no teacher (no run.json, checkpoint.json or config.json): give a run, a checkpoint of one, "
        "or a Hugging Face folder"
    )


def _pieces(folder: Path) -> tuple[str, ...]:
    """The vocabulary of a Hugging Face folder, by id."""
    if any((folder / kind.FILE).is_file() for kind in KINDS):
        return load_tokenizer(folder).pieces
    path = folder / "tokenizer.json"
    if not path.is_file():
        names = ", ".join([*(kind.FILE for kind in KINDS), path.name])
        raise ValueError(f"{folder}: none of {names}, which say what its ids mean: copy its tokenizer there")
    ids = FastTokenizer.from_file(str(path)).get_vocab()
    return tuple(sorted(ids, key=ids.__getitem__))


def _check_vocabulary(location: Path, size: int, own: tuple[str, ...], pieces: tuple[str, ...]) -> None:
    both = enumerate(itertools.zip_longest(own, pieces))
    differing = [f"{number} is {its!r} there, {ours!r} here" for number, (its, ours) in both if its != ours]
    if differing:
        more = f", and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
        raise ValueError(
            f"{location}: another vocabulary than the data's ({len(own)} entries, {len(pieces)} here): "
            f"{'; '.join(differing[:NAMED])}{more}: build the data with the teacher's tokenizer"
        )
    if size != len(pieces):
        raise ValueError(
            f"{location}: its model has {size} ids, its vocabulary {len(pieces)}: they do not belong together"
        )


def fingerprint(model: PretrainingModel) -> str:
    """SHA-256 of a model's shape and weights, on the CPU, in hex."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(model.config), sort_keys=True).encode())
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().numpy().data)
    return digest.hexdigest()
