"""The model card of a fine-tuned model, whichever library opens its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from litebert.export.card import page
from litebert.finetune.classification import Classification
from litebert.finetune.span import Span
from litebert.finetune.tagging import Tagging


@dataclasses.dataclass(frozen=True)
class Use:
    """How a model of a kind of task is used.

    Attributes:
        head: name of transformers' class.
        length: tokens of an example in fine-tuning, where its settings do not say it.
        pipeline: Hugging Face's name of it.
        texts, answer: Python, what is asked and what is made of labels and outputs.
    """

    head: str
    length: int
    pipeline: str
    texts: str
    answer: str


_SENTENCE = Use(
    Classification.head,
    Classification.max_length,
    "text-classification",
    '"今天天气很好。"',
    "labels[int(outputs[0].argmax())]",
)
USES = {
    "sentence": _SENTENCE,
    "pair": dataclasses.replace(_SENTENCE, texts='"今天天气很好。", "今天下雨。"'),
    "tagging": Use(
        Tagging.head,
        Tagging.max_length,
        "token-classification",
        '"记者在北京。"',
        "[labels[int(tag)] for tag in outputs[0][0].argmax(-1)]",
    ),
    "span": Use(
        Span.head,
        Span.max_length,
        "question-answering",
        '"谁在北京？", "记者在北京。"',
        "int(outputs[0].argmax()), int(outputs[1].argmax())",
    ),
}
LOADING = {  # by library
    "transformers": """\
from transformers import {head}, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = {head}.from_pretrained("{folder}")
labels = model.config.id2label
inputs = tokenizer({texts}, truncation=True, max_length={positions}, return_tensors="pt")
outputs = model(**inputs).to_tuple()
print({answer})
""",
    "onnx": """\
import onnxruntime
from transformers import AutoConfig, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("{folder}")
labels = AutoConfig.from_pretrained("{folder}").id2label
session = onnxruntime.InferenceSession("{folder}/model.onnx", providers=["CPUExecutionProvider"])
inputs = tokenizer({texts}, truncation=True, max_length={positions}, return_tensors="np")
outputs = session.run(None, {{each.name: inputs[each.name] for each in session.get_inputs()}})
print({answer})
""",
}


def origin(record: Mapping[str, Any]) -> dict[str, str]:
    """The facts of a model's task, and of what it was before, of a record of launcher/finetune.py."""
    return {
        "task": f"{record['task']}, a {record['kind']} task; fingerprint {record['fingerprint']}",
        "labels": ", ".join(record["labels"]) or "none",
        "begun as": f"{record['model']}, fingerprint {record['model_fingerprint']}",
    }


def card(
    record: Mapping[str, Any], model: Any, positions: int, facts: Mapping[str, str], name: str, library: str
) -> str:
    """The text of a card.

    Args:
        record: of launcher/finetune.py.
        model: of transformers.
        positions: tokens of its longest input.
        facts: beside those of its size.
        name: of its folder.
        library: that opens it, of LOADING.
    """
    use = USES[record["kind"]]
    length = record["settings"]["max_length"] or min(use.length, positions)
    size = {
        "parameters": f"{model.num_parameters():,}",
        "longest input": f"{positions} tokens; fine-tuned on texts cut to {length}",
    }
    loading = LOADING[library].format(
        head=use.head, folder=name, texts=use.texts, answer=use.answer, positions=positions
    )
    return page(
        f"{record['task']}, fine-tuned by litebert",
        {**facts, **size},
        loading,
        pipeline=use.pipeline,
        family=model.config.model_type,
        library=library,
        base=record["model"],
    )
