"""What a model has learnt and what not: held-out figures by group, and what its sense of order rests on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from data_tools.progress import Progress
from data_tools.text.interface import TextTokenizer
from litebert.data.batch import MicroBatch
from litebert.data.columns import Columns, ranges
from litebert.data.split import Split
from litebert.evaluate.groups import Grouped, Groups
from litebert.evaluate.heldout import wilson_interval
from litebert.evaluate.parts import columns_of, micro_batches, parts
from litebert.evaluate.strangers import strangers
from litebert.markdown import markdown
from litebert.model.cross_entropy import each_cross_entropy
from litebert.model.heads import PretrainingModel

_BATCH = 64  # samples of full length that are asked at once
_OF_WORDS = ("characters", "pieces")
_SHOWN = 12  # groups of a grouping in the table


@dataclasses.dataclass(frozen=True)
class OrderCheck:
    """What a sentence-order head makes of pairs whose second segment is of another document (``strangers``).

    No such pair has an order of its own; it has the one that both segments had in their own pairs. Intervals are of
    95 % (Wilson 1927).

    Attributes:
        pairs: how many there are.
        accuracy, interval: share of them that the head gives that order. Chance is 0.5, and what is above it is told
            from each segment alone: an opening, a closing line.
        swapped, swapped_interval: share that it calls swapped. A head that takes a change of topic for a swap, or for
            the lack of one, calls nearly all of them the same.
        own_swapped, own_swapped_interval: the same of all held-out pairs as they are.
    """

    pairs: int
    accuracy: float
    interval: tuple[float, float]
    swapped: float
    swapped_interval: tuple[float, float]
    own_swapped: float
    own_swapped_interval: tuple[float, float]

    @classmethod
    def of(cls, right: int, swapped: int, pairs: int, own_swapped: int, own_pairs: int) -> OrderCheck | None:
        """From counts; None where no two documents have pairs."""
        if not pairs:
            return None
        return cls(
            pairs=pairs,
            accuracy=right / pairs,
            interval=wilson_interval(right, pairs),
            swapped=swapped / pairs,
            swapped_interval=wilson_interval(swapped, pairs),
            own_swapped=own_swapped / own_pairs,
            own_swapped_interval=wilson_interval(own_swapped, own_pairs),
        )


@dataclasses.dataclass(frozen=True)
class Intrinsic:
    """Figures on a held-out split with its first masked copy.

    Attributes:
        mlm_by: by grouping (``Groups``) and group, in order and without the empty ones: ``masked_tokens``;
            ``mlm_loss``, nats a token; ``unigram_loss``, of guessing by the training text's counts (add-one smoothed);
            ``mlm_accuracy``. Of groups of words also ``words`` and ``word_accuracy``, the share of them all of whose
            masked tokens are right. The groups of a grouping add up to all masked tokens.
        sop_strangers: None for a model without a pair head, and where the data have no sentence-order pairs.
    """

    mlm_by: dict[str, dict[str, dict[str, float]]]
    sop_strangers: OrderCheck | None


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What a model says of samples: loss and hit of each masked token, [M], and whether it calls them swapped, [B]."""

    losses: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    swapped: npt.NDArray[np.bool_]


def evaluate_intrinsic(
    model: PretrainingModel,
    train: Split,
    heldout: Split,
    tokenizer: TextTokenizer,
    device: torch.device,
    micro_tokens: int | None = None,
) -> Intrinsic:
    """Figures of a model on every sample of a split, and on strangers made of them, 64 blocks at a time.

    Args:
        model: in evaluation mode; it is moved to the device.
        train: the split whose token counts are the baseline, and the measure of frequency.
        heldout: the split to measure on.
        tokenizer: that the data's ids are of.
        micro_tokens: asked at once, at most; no figure depends on it but by rounding.
    """
    model = model.to(device)
    tokens = micro_tokens or _BATCH * heldout.seq_length
    groups = Groups(heldout.sources, np.asarray(train.unigram), tokenizer)
    tally = _Tally(groups.names, train.unigram_log_probabilities)
    order = heldout.pairs == "sop" and model.pair is not None
    counts = np.zeros(5, np.int64)
    with Progress("measuring by group", "samples", heldout.samples) as progress:
        for block in parts(heldout):
            own = _answers(model, columns_of(block), device, tokens)
            tally.add(groups.of(block), own)
            if order:
                met, paired = strangers(block), block.samples.order >= 0
                told = _answers(model, met, device, tokens).swapped
                counts += [(told == met.order).sum(), told.sum(), len(met), own.swapped[paired].sum(), paired.sum()]
            progress.advance(len(block.samples))
    return Intrinsic(tally.figures(), OrderCheck.of(*counts.tolist()) if order else None)


@torch.inference_mode()
def _answers(model: PretrainingModel, columns: Columns, device: torch.device, tokens: int) -> _Answers:
    losses = np.zeros(len(columns.positions))
    right, swapped = np.zeros(len(columns.positions), bool), np.zeros(len(columns), bool)
    for rows, batch in micro_batches(columns, tokens):
        masked = len(batch.labels)
        said = _said(model, batch.to(device)).cpu().numpy()  # the only time that a batch waits for the device
        places = ranges(columns.masks_begin[rows], columns.counts[rows])
        losses[places], right[places], swapped[rows] = np.split(said, [masked, 2 * masked])
    return _Answers(losses, right, swapped)


def _said(model: PretrainingModel, batch: MicroBatch) -> torch.Tensor:
    """Losses and hits of the masked tokens, and of each sample whether it is called swapped, end to end: float64."""
    packing, words = batch.packing, model.encoder.embeddings.word
    samples = len(packing.lengths)
    rows = torch.cat([packing.first, batch.masked])
    first_BH, hidden_MH = model.encoder(batch.ids, batch.token_types, packing, rows).tensor_split([samples])
    losses_M, right_M = each_cross_entropy(model.mlm.transform(hidden_MH), words.weight, model.mlm.bias, batch.labels)
    swapped_B = model.pair(first_BH).argmax(-1) if model.pair is not None else losses_M.new_zeros(samples)
    return torch.cat([losses_M.double(), right_M.double(), swapped_B.double()])


class _Tally:
    """Sums over masked tokens, by group."""

    def __init__(self, names: Mapping[str, Sequence[str]], log_unigram: npt.NDArray[np.float64]) -> None:
        self._names, self._log_unigram = names, log_unigram
        self._sums = {grouping: np.zeros((6, len(of))) for grouping, of in names.items()}

    def add(self, grouped: Grouped, answers: _Answers) -> None:
        """Count the masked tokens of a block."""
        words = np.flatnonzero(grouped.begins_word)
        wrong = np.add.reduceat(~answers.right, words, dtype=np.int64) if len(words) else words
        word_right = np.zeros(len(grouped.labels))
        word_right[words] = wrong == 0
        columns = (
            np.ones(len(grouped.labels)),
            answers.losses,
            answers.right,
            -self._log_unigram[grouped.labels],
            grouped.begins_word,
            word_right,
        )
        for grouping, numbers in grouped.groups.items():
            sums = self._sums[grouping]
            sums += [np.bincount(numbers, weights=column, minlength=sums.shape[1]) for column in columns]

    def figures(self) -> dict[str, dict[str, dict[str, float]]]:
        """Means, by grouping and group."""
        return {
            grouping: {
                name: _means(sums, grouping in _OF_WORDS)
                for name, sums in zip(self._names[grouping], all_sums.T.tolist(), strict=True)
                if sums[0]
            }
            for grouping, all_sums in self._sums.items()
        }


def _means(sums: Sequence[float], of_words: bool) -> dict[str, float]:
    tokens, loss, right, unigram, words, words_right = sums
    means: dict[str, float] = {
        "masked_tokens": int(tokens),
        "mlm_loss": loss / tokens,
        "unigram_loss": unigram / tokens,
        "mlm_accuracy": right / tokens,
    }
    return means | {"words": int(words), "word_accuracy": words_right / words} if of_words else means


def groups_table(figures: Intrinsic, sop_accuracy: float | None) -> str:
    """The figures in Markdown, with the accuracy on pairs as they are; of many groups, those with the most tokens."""
    heads = ["masked tokens by", "", "tokens", "loss", "unigram", "accuracy", "whole words right"]
    rows = [heads]
    for grouping, groups in figures.mlm_by.items():
        largest = sorted(groups, key=lambda name: -groups[name]["masked_tokens"])[:_SHOWN]
        for name in (name for name in groups if name in largest):
            its = groups[name]
            words = f"{its['word_accuracy']:.1%}" if "words" in its else ""
            losses = [f"{its[key]:.3f}" for key in ("mlm_loss", "unigram_loss")]
            rows.append([grouping, name, f"{its['masked_tokens']:,}", *losses, f"{its['mlm_accuracy']:.1%}", words])
        if more := len(groups) - len(largest):
            rows.append([grouping, f"and {more:,} more", *[""] * 5])
    text = markdown(rows, range(2, 7))
    check = figures.sop_strangers
    if check is None or sop_accuracy is None:
        return text
    (low, high), (least, most) = check.interval, check.swapped_interval
    return (
        f"{text}\n\nSOP, {check.pairs:,} pairs of strangers: {check.accuracy:.1%} get the order that their segments had"
        f" ({low:.1%} to {high:.1%}; pairs as they are: {sop_accuracy:.1%}),\n{check.swapped:.1%} are called swapped"
        f" ({least:.1%} to {most:.1%}; pairs as they are: {check.own_swapped:.1%})"
    )
