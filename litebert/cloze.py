"""A fixed set of Chinese sentences with a word masked, and what a model fills in: read as it learns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from data_tools.text.interface import TextTokenizer
from litebert.data.batch import Counts, MicroBatch
from litebert.model.attention import Packing
from litebert.objectives import Objective

MASK = "[MASK]"
SENTENCES = (
    "新华社北京1月15日[MASK]",
    "北京是中国的首[MASK]，历史悠久。",
    "改革开放以来，我国[MASK]建设取得了很大成就。",
    "酒店的服务态度很[MASK]，下次还会来住。",
    "这[MASK]书的内容很好，值得一看。",
)
CANDIDATES = 3


def questions(tokenizer: TextTokenizer) -> MicroBatch:
    """The sentences as a micro-batch, each with one masked token, in their order."""
    special = tokenizer.vocabulary
    sentences = []
    for sentence in SENTENCES:
        before, after = (tokenizer.encode([tokenizer.canonical(part)]).ids.tolist() for part in sentence.split(MASK))
        sentences.append([special.cls, *before, special.mask, *after, special.sep])
    return _asked(sentences, special.mask)


def every_token(tokenizer: TextTokenizer, longest: int) -> MicroBatch:
    """The sentences, without their blanks and cut to so many tokens, once for each of their tokens with that masked."""
    special = tokenizer.vocabulary
    sentences = []
    for sentence in SENTENCES:
        ids = tokenizer.encode([tokenizer.canonical(sentence.replace(MASK, ""))]).ids.tolist()[: longest - 2]
        for place in range(len(ids)):
            sentences.append([special.cls, *ids[:place], special.mask, *ids[place + 1 :], special.sep])
    return _asked(sentences, special.mask)


def _asked(sentences: Sequence[Sequence[int]], mask: int) -> MicroBatch:
    """Sentences that have one masked token each."""
    ids = torch.tensor([one for sentence in sentences for one in sentence])
    count = len(sentences)
    return MicroBatch(
        ids=ids,
        token_types=torch.zeros_like(ids),
        packing=Packing.of([len(sentence) for sentence in sentences]),
        masked=(ids == mask).nonzero().flatten(),
        labels=torch.zeros(count, dtype=torch.int64),
        order=torch.full((count,), -1),
        counts=Counts(len(ids), count, count, 0),
    )


def answers(objective: Objective, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """The likeliest pieces for each mask, the best first: probabilities and ids, [sentences, CANDIDATES]."""
    output = objective.model(batch.ids, batch.token_types, batch.packing, batch.masked)
    best = output.mlm_logits_MV.float().softmax(-1).topk(CANDIDATES)
    return best.values, best.indices


def page(tokenizer: TextTokenizer, shares: Sequence[Sequence[float]], ids: Sequence[Sequence[int]]) -> str:
    """The sentences and what they were filled with, as a table in Markdown."""
    rows = [
        f"| {sentence} | {' '.join(f'{tokenizer.pieces[i]} {share:.0%}' for share, i in zip(*found, strict=True))} |"
        for sentence, *found in zip(SENTENCES, shares, ids, strict=True)
    ]
    return "\n".join(["| sentence | filled with |", "| --- | --- |", *rows])
