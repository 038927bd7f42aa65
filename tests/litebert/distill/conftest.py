"""Shards of two masked copies, and a teacher that has answered them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_tools.build import BuildConfig, build
from data_tools.samples.masks import MaskConfig
from data_tools.samples.pairs import PairConfig
from data_tools.shards.assembly import ShardConfig
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.tokenizer import Tokenizer
from litebert.distill.codecs import CodecConfig
from litebert.distill.lesson import Lesson, TeachConfig
from litebert.distill.teaching import Teaching
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel
from litebert.model.huggingface import save_huggingface

CODECS = {
    "hidden": CodecConfig("hidden"),
    "head": CodecConfig("head"),
    "head8": CodecConfig("head", bits=8),
    "topk": CodecConfig("topk", k=7),
    "sampled": CodecConfig("sampled", draws=9),
}


@pytest.fixture(scope="session")
def two_copies(corpus: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as six shards or so, each sample masked twice."""
    folder = tmp_path_factory.mktemp("two_copies") / "shards"
    config = BuildConfig(
        pairs=PairConfig(seq_length=64),
        masks=MaskConfig(copies=2),
        shards=ShardConfig(samples_per_shard=400, samples_per_block=50, heldout_share=0.1),
    )
    build([corpus], tokenizer_folder, folder, config)
    return folder


@pytest.fixture(scope="session")
def opinionated(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes teachers that have opinions, by seed: Hugging Face folders."""

    def teacher(seed: int) -> Path:
        folder = tmp_path_factory.mktemp(f"teacher{seed}")
        torch.manual_seed(seed)
        model = PretrainingModel(
            ModelConfig(
                vocab_size=300,
                hidden_size=24,
                embedding_size=16,
                num_layers=4,
                num_heads=2,
                intermediate_size=40,
                max_positions=64,
                sharing="all",
            )
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        save_huggingface(model, folder, pad_id=0, cls_id=2, sep_id=3)
        save_tokenizer(tokenizer, folder)
        return folder

    return teacher


@pytest.fixture(scope="session")
def teacher_folder(opinionated: Callable[[int], Path]) -> Path:
    return opinionated(1)


@pytest.fixture(scope="session")
def taught(two_copies: Path, teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its answers, by codec."""
    folder = tmp_path_factory.mktemp("taught")
    for name, codec in CODECS.items():
        lesson = Lesson(two_copies, teacher_folder, codec, TeachConfig(seed=5), torch.device("cpu"))
        Teaching(lesson, folder / name).run()
    return {name: folder / name for name in CODECS}


@pytest.fixture(scope="session")
def lesson(two_copies: Path, teacher_folder: Path) -> Lesson:
    """The same teacher and shards, to be asked with codec ``head``."""
    return Lesson(two_copies, teacher_folder, CODECS["head"], TeachConfig(seed=5), torch.device("cpu"))
