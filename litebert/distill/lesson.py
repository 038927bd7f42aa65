"""A folder of shards and the teacher who answers it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy.typing as npt
import torch

from data_tools.text.huggingface import load_tokenizer
from litebert.data.split import Split
from litebert.distill import head, sidecar
from litebert.distill.answers import MICRO_TOKENS, Answering
from litebert.distill.codecs import CodecConfig, codec_of
from litebert.distill.message import Asked
from litebert.distill.sidecar import Taught
from litebert.distill.teacher import DTYPES, Teacher

SPLITS = ("train", "heldout")


@dataclasses.dataclass(frozen=True)
class TeachConfig:
    """How a teacher is asked.

    Attributes:
        copies: masked copies of the training split that it answers; none for all. Of the held-out split it is the
            first, which evaluation reads.
        precision: that it computes in, fp32 or bf16.
        seed: of draws, where the codec makes some.
    """

    copies: tuple[int, ...] = ()
    precision: str = "fp32"
    seed: int = 1


class Lesson:
    """What can be asked, and of whom.

    Attributes:
        taught: what the answers are a function of.
        head: the teacher's masked-word head as a file's content, where the codec needs it, or None.
        splits: of the folder, by name.
    """

    def __init__(
        self, location: str | Path, teacher: Path, codec: CodecConfig, config: TeachConfig, device: torch.device
    ) -> None:
        """Args:
        location: the folder of shards, a path or a URL.
        teacher: a run, a checkpoint, or a Hugging Face folder.
        device: that the teacher computes on.

        Raises ValueError where they do not fit together.
        """
        self.splits = {name: Split(location, name) for name in SPLITS}
        first = self.splits["train"]
        with first.tokenizer() as folder:
            read = Teacher.load(teacher, load_tokenizer(folder).pieces)
        read.check_length(first.seq_length)
        if strange := [copy for copy in config.copies if not 0 <= copy < first.copies]:
            raise ValueError(f"--copies {strange[0]}: the masked copies of {location} are 0 to {first.copies - 1}")
        kept = codec_of(codec, read.model.config)
        self.head = head.pack(read.model) if kept.needs_head else None
        self.taught = Taught(
            data=first.fingerprint,
            content={name: split.content for name, split in self.splits.items()},
            tokenizer=first.tokenizer_fingerprint,
            teacher=read.fingerprint,
            model=read.model.config,
            precision=config.precision,
            micro_tokens=MICRO_TOKENS,
            codec=codec,
            seed=config.seed,
            copies={"train": sorted(set(config.copies)) or list(range(first.copies)), "heldout": [0]},
            columns=sidecar.columns_of(kept),
            head=sidecar.sha256(self.head) if self.head else None,
        )
        self._answering = Answering(read.to(device, DTYPES[config.precision]), kept, config.seed)

    @property
    def bytes_per_position(self) -> int:
        """That the codec keeps of a masked token."""
        return self._answering.codec.bytes_per_position

    def answers(self, asked: Asked) -> dict[str, npt.NDArray]:
        """To the masked tokens of a block's copy, in their order: columns [masked, ...] by name.

        Raises ValueError that names the block where it cannot be read.
        """
        return self._answering.answers(self.splits[asked.split].columns(asked.block, asked.copy), asked.copy)

    def masked(self, asked: Asked) -> int:
        """Masked tokens of a block's copy."""
        return self.splits[asked.split].masked(asked.block, asked.copy)

    def check(self, asked: Asked) -> None:
        """Raises ValueError where there is no such block, or the question is another teacher's."""
        if asked.of != self.taught.answered:
            raise ValueError(f"{asked} is asked of {asked.of[:12]}, and this is {self.taught.answered[:12]}")
        split = self.splits.get(asked.split)
        if split is None or not (0 <= asked.block < len(split.block_samples) and 0 <= asked.copy < split.copies):
            raise ValueError(f"there is no {asked} in {self.splits['train'].location}")
