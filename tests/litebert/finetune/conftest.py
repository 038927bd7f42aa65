"""A tiny model of random weights, tasks that it can learn, and models that have learnt them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from data_tools.text.wordpiece import WordPiece
from litebert.finetune.candidate import Candidate
from litebert.finetune.config import FinetuneConfig
from litebert.finetune.examples import KINDS
from litebert.finetune.model_folder import finetune
from litebert.finetune.tasks import Task
from tests.litebert.finetune.made_up import made_model, made_task


@pytest.fixture(scope="session")
def wordpiece(wordpiece_folder: Path) -> WordPiece:
    return WordPiece((wordpiece_folder / WordPiece.FILE).read_bytes(), "test")


@pytest.fixture(scope="session")
def candidate(wordpiece: WordPiece, tmp_path_factory: pytest.TempPathFactory):
    with Candidate.opened(made_model(tmp_path_factory.mktemp("model") / "tiny", wordpiece)) as opened:
        yield opened


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Task]:
    folder = tmp_path_factory.mktemp("tasks")
    read = {kind: Task.read(made_task(folder / kind, kind)) for kind in KINDS}
    assert [one.kind for one in read.values()] == list(KINDS)
    return read.__getitem__


@pytest.fixture(scope="session")
def teacher(candidate, task, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of the tiny model, fine-tuned on the task of a kind."""
    folder = tmp_path_factory.mktemp("teachers")
    config = FinetuneConfig(epochs=4, batch=16, learning_rates=(3e-3,), seeds=1, precision="fp32")

    @cache
    def made(kind: str) -> Path:
        finetune(candidate, task(kind), config, folder / "trials", None, folder / kind)
        return folder / kind

    return made
