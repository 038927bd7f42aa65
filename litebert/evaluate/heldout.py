"""How well a model fills in and orders text of documents that it was not trained on."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist

import torch

from data_tools.progress import Progress
from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.distill.config import DistillConfig
from litebert.distill.objective import DistillationObjective
from litebert.distill.sources import Live
from litebert.distill.states import Wanted
from litebert.distill.teacher import Teacher
from litebert.model.heads import PretrainingModel
from litebert.objectives import Objective, ObjectiveConfig, PretrainingObjective

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Heldout:
    """Figures on a held-out split, losses in nats per masked token.

    Attributes:
        mlm_loss, mlm_accuracy: of the model, on the masked tokens.
        unigram_loss: of guessing by the training text's token counts (add-one smoothed), on all held-out text.
        unigram_loss_masked: the same on the masked tokens alone, which whole-word masking draws a little unevenly.
        sop_accuracy, nsp_accuracy: of the model, on the samples that have two segments; None for a model without a
            pair head, and where the data's pairs are not of the kind.
        sop_interval, nsp_interval: their 95 % intervals (Wilson 1927).
        kl: KL(teacher || model) on the masked tokens, nats; of several teachers, from the mean of their probabilities;
            None without one.
        agreement: share of masked tokens of which model and teacher think the same likeliest; None without a teacher.
        samples, masked_tokens, pairs: how many there were.
        parameters: of the model.
    """

    mlm_loss: float
    mlm_accuracy: float
    unigram_loss: float
    unigram_loss_masked: float
    sop_accuracy: float | None
    sop_interval: tuple[float, float] | None
    nsp_accuracy: float | None
    nsp_interval: tuple[float, float] | None
    kl: float | None
    agreement: float | None
    samples: int
    masked_tokens: int
    pairs: int
    parameters: int


def evaluate_heldout(
    model: PretrainingModel,
    train: Split,
    heldout: Split,
    device: torch.device,
    teachers: Sequence[Teacher] = (),
) -> Heldout:
    """Figures of a model on every sample of a split, with its first masked copy.

    Args:
        model: in evaluation mode; it is moved to the device.
        train: the split whose token counts are the baseline.
        heldout: the split to measure on.
        teachers: that it is compared with, on the device.
    """
    told = heldout.pairs if model.pair is not None else "none"
    weights = ObjectiveConfig(sop=float(told == "sop"), nsp=float(told == "nsp"))
    objective = _objective(model.to(device), weights, teachers)
    averaged = {"mlm": "masked", "mlm_accuracy": "masked"}
    if teachers:
        averaged |= {"kl": "masked", "agreement": "masked"}
    if weights.pairs:
        averaged[f"{told}_accuracy"] = "pairs"
    log_unigram = torch.from_numpy(train.unigram_log_probabilities)
    sums: dict[str, float] = defaultdict(float)
    batch = min(_BATCH, heldout.samples)
    config = DataConfig(batch, micro_tokens=max(batch, 2) * heldout.seq_length)
    with torch.inference_mode(), Progress("evaluating", "samples", heldout.samples) as progress:
        for step in Loader(heldout, config, rank=0, world_size=1):
            for micro_batch in step.micro_batches:
                values = objective(micro_batch.to(device)).values
                for name, over in averaged.items():
                    sums[name] += float(values[name]) * getattr(step.counts, over)
                sums["unigram"] -= float(log_unigram[micro_batch.labels].sum())
            sums["masked"] += step.counts.masked
            sums["pairs"] += step.counts.pairs
            progress.advance(step.counts.samples)
    masked, pairs = max(1, sums["masked"]), max(1, sums["pairs"])
    accuracy = {kind: sums[f"{kind}_accuracy"] / pairs if told == kind else None for kind in ("sop", "nsp")}
    interval = {
        kind: wilson_interval(sums[f"{kind}_accuracy"], sums["pairs"]) if told == kind else None
        for kind in ("sop", "nsp")
    }
    text = heldout.unigram / heldout.unigram.sum()
    return Heldout(
        mlm_loss=sums["mlm"] / masked,
        mlm_accuracy=sums["mlm_accuracy"] / masked,
        unigram_loss=-float((text * train.unigram_log_probabilities).sum()),
        unigram_loss_masked=sums["unigram"] / masked,
        sop_accuracy=accuracy["sop"],
        sop_interval=interval["sop"],
        nsp_accuracy=accuracy["nsp"],
        nsp_interval=interval["nsp"],
        kl=sums["kl"] / masked if teachers else None,
        agreement=sums["agreement"] / masked if teachers else None,
        samples=heldout.samples,
        masked_tokens=int(sums["masked"]),
        pairs=int(sums["pairs"]),
        parameters=model.parameter_count(),
    )


def _objective(model: PretrainingModel, weights: ObjectiveConfig, teachers: Sequence[Teacher]) -> Objective:
    """In evaluation mode, what gives the values that are averaged."""
    if not teachers:
        return PretrainingObjective(model, weights).eval()
    source, words = Live(teachers, Wanted(), temperature=1.0), DistillConfig(cos=0.0, temperature=1.0)
    return DistillationObjective(model, source, words, weights, (), teachers[0].model.config.hidden_size).eval()


def wilson_interval(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share (Wilson 1927); (0, 1) where nothing was tried."""
    if trials <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)
