"""Tasks, one of each kind, that can be learnt from the words alone, and a tiny random model to learn them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from data_tools.text.huggingface import save_tokenizer
from data_tools.text.interface import TextTokenizer
from tests.conftest import OBJECTS, SUBJECTS, VERBS

SIZES = {"train": 240, "dev": 120, "test": 200}
GOOD, BAD = "喜欢", "解决"
NAMES = {"北京": "place", "上海": "place", "记者": "person", "医生": "person"}
FILLERS = [word for word in (*SUBJECTS, *VERBS, *OBJECTS) if word not in (GOOD, BAD, *NAMES)]


def filler(rng: np.random.Generator, least: int, most: int) -> list[str]:
    return [FILLERS[i] for i in rng.integers(len(FILLERS), size=rng.integers(least, most))]


def sentence(rng: np.random.Generator, number: int) -> dict[str, Any]:
    words = filler(rng, 1, 8)
    words.insert(int(rng.integers(len(words) + 1)), (GOOD, BAD)[number % 2])
    return {"text": "".join(words), "label": str(number % 2)}


def pair(rng: np.random.Generator, number: int) -> dict[str, Any]:
    text = "".join(filler(rng, 1, 4))
    return {"text_a": text, "text_b": sentence(rng, number)["text"], "label": str(number % 2)}


def tagging(rng: np.random.Generator, number: int) -> dict[str, Any]:
    text, entities = "", []
    for word in filler(rng, 2, 6):
        name = list(NAMES)[rng.integers(len(NAMES))]
        entities.append([len(text), len(text) + len(name), NAMES[name], name])
        text += f"{name}{word}"
    return {"text": text, "entities": entities}


def span(rng: np.random.Generator, number: int) -> dict[str, Any]:
    words = filler(rng, 12, 40)
    words.insert(int(rng.integers(len(words) + 1)), (answer := list(NAMES)[number % 4]))
    context = "".join(words)
    return {"context": context, "question": "谁？", "answers": [{"text": answer, "start": context.index(answer)}]}


MADE: dict[str, Callable[[np.random.Generator, int], dict[str, Any]]] = {
    "sentence": sentence,
    "pair": pair,
    "tagging": tagging,
    "span": span,
}


def made_task(folder: Path, kind: str, seed: int = 0) -> Path:
    """A task's folder."""
    rng = np.random.default_rng(len(kind) + seed)
    folder.mkdir(parents=True)
    for split, size in SIZES.items():
        lines = [json.dumps(MADE[kind](rng, number), ensure_ascii=False) + "\n" for number in range(size)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def made_model(folder: Path, tokenizer: TextTokenizer, spread: float = 0.02) -> Path:
    """A Hugging Face folder of a BERT of random weights."""
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=96,
        initializer_range=spread,
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder, max_length=96)
    return folder
