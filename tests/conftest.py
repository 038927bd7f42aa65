"""What all tests share: a small corpus of made-up Chinese text, its tokenizer and its shards."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_tools.build import BuildConfig, build
from data_tools.samples.pairs import PairConfig
from data_tools.shards.assembly import ShardConfig
from data_tools.text.huggingface import save_tokenizer
from data_tools.text.tokenizer import Tokenizer
from data_tools.text.training import TokenizerConfig, train
from data_tools.text.wordpiece import WordPiece

SUBJECTS = [
    "我们",
    "他们",
    "学生",
    "老师",
    "公司",
    "市场",
    "政府",
    "记者",
    "北京",
    "上海",
    "孩子",
    "医生",
    "工人",
    "农民",
    "科学家",
    "ＡＢＣ集团",
    "iPhone用户",
]
VERBS = ["喜欢", "研究", "发展", "支持", "参加", "讨论", "建设", "报道", "学习", "帮助", "认为", "发现", "提高", "解决"]
OBJECTS = [
    "经济",
    "文化",
    "教育",
    "科技",
    "环境",
    "问题",
    "生活",
    "历史",
    "计划",
    "工程",
    "机器学习",
    "3.14%的股份",
    "《红楼梦》",
    "自然语言处理",
]
ENDS = ["。", "。", "。", "！", "？", "……", "。”", "；"]


def made_up_text(rng: np.random.Generator, sentences: int) -> str:
    """Sentences drawn from a few words, in paragraphs, with the marks and forms that real text has."""
    parts = []
    for _ in range(sentences):
        end = ENDS[rng.integers(len(ENDS))]
        clauses = "，".join(
            SUBJECTS[rng.integers(len(SUBJECTS))]
            + VERBS[rng.integers(len(VERBS))]
            + OBJECTS[rng.integers(len(OBJECTS))]
            for _ in range(rng.integers(1, 5))
        )
        parts.append(("“" if end.endswith("”") else "") + clauses + end + ("\n" if rng.random() < 0.2 else ""))
    return "".join(parts)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 documents of 1 to 60 sentences, as jsonl."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for number in range(400):
            text = made_up_text(rng, int(rng.integers(1, 60)))
            stream.write(json.dumps({"id": str(number), "source": "made-up", "text": text}, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="session")
def texts(corpus: Path) -> list[str]:
    """The texts of the corpus."""
    return [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def tokenizer_folder(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 300 pieces, trained on the corpus."""
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    save_tokenizer(Tokenizer(train(texts, TokenizerConfig(vocab_size=300)), "test"), folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder)


@pytest.fixture(scope="session")
def wordpiece_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of BERT's kind, made up: unused lines, special tokens not first, the corpus's characters."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789ぁあア한한ßøñжλ×→😀"
    words = ["hello", "he", "##llo", "##lo", "2012", "201", "##2年", "カ", "##メ", "##ラ", "wor", "##ld", "##ö", "#"]
    chinese = sorted(
        {*"，。！？”“、：（）「」…—·!?.,()[]:/\"'-_=+<>@&*龘𠮷中国人", *"".join((*SUBJECTS, *VERBS, *OBJECTS))}
    )
    pieces = ["[PAD]", *(f"[unused{n}]" for n in range(1, 9)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "<T>"]
    pieces = list(dict.fromkeys([*pieces, *chinese, *letters, *(f"##{letter}" for letter in letters), *words]))
    path = tmp_path_factory.mktemp("wordpiece") / "vocab.txt"
    path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def wordpiece_folder(wordpiece_file: Path) -> Path:
    """The made-up vocabulary as a tokenizer's folder."""
    folder = wordpiece_file.parent / "tokenizer"
    save_tokenizer(WordPiece(wordpiece_file.read_bytes(), "test"), folder)
    return folder


@pytest.fixture(scope="session")
def build_config() -> BuildConfig:
    """Small shards and blocks, so that there are several."""
    return BuildConfig(
        pairs=PairConfig(seq_length=64),
        shards=ShardConfig(samples_per_shard=400, samples_per_block=50, heldout_share=0.1),
    )


@pytest.fixture(scope="session")
def shards(corpus: Path, tokenizer_folder: Path, build_config: BuildConfig, tmp_path_factory) -> Path:
    """The corpus as shards."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    build([corpus], tokenizer_folder, folder, build_config)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none, and long work in bf16 where it is emulated."""
    needing = [(item, name) for item in items for name in ("gpu", "bf16") if item.get_closest_marker(name)]
    if needing:
        import torch

        from litebert.plan.devices import computes_bf16

        lacking = {} if torch.cuda.is_available() else {"gpu": "no CUDA device"}
        lacking |= {} if computes_bf16(torch.device("cpu")) else {"bf16": "bf16 is emulated here, for minutes"}
        for item, name in needing:
            if name in lacking:
                item.add_marker(pytest.mark.skip(reason=lacking[name]))


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports one of them, which import each other as scripts do; afterwards none is known any more."""
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
