"""What a student is trained to do: say what its teacher says, look inside as its teacher does, and fill in words.

Shape suffixes: B = samples, M = masked positions, T = packed tokens, R = M or T, H = hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from litebert.data.batch import MicroBatch
from litebert.distill.config import DistillConfig
from litebert.distill.losses import cosine_loss, hidden_loss, pair_loss, relation_loss
from litebert.distill.soft_cross_entropy import SoftLosses, soft_linear_cross_entropy
from litebert.distill.sources import SoftTargets, Source
from litebert.distill.states import States, Wanted, states
from litebert.model.encoder import initialize
from litebert.model.heads import PretrainingModel
from litebert.objectives import Contribution, Objective, ObjectiveConfig, told_pairs


class DistillationObjective(Objective):
    """Losses against a teacher and against labels, each averaged over the global batch.

    Its parameters are the student's, and a projection of hidden states where the widths differ, which all layers and
    losses share (Jiao et al. 2020, "TinyBERT", equation 8).
    """

    def __init__(
        self,
        model: PretrainingModel,
        source: Source,
        soft: DistillConfig,
        hard: ObjectiveConfig,
        layers: Sequence[tuple[int, int]],
        teacher_width: int,
    ) -> None:
        """Args:
        model: the student.
        source: of the soft targets.
        soft, hard: weights of the losses against them, and against labels.
        layers: those of student and teacher that cos and hidden compare, numbered from 1.
        teacher_width: of the teacher's hidden states.

        Raises ValueError where relations of the two cannot be compared.
        """
        super().__init__()
        if soft.relation and teacher_width % model.config.num_heads:
            raise ValueError(
                f"distill.relation needs model.num_heads that divides the teacher's width {teacher_width}, and "
                f"{model.config.num_heads} does not"
            )
        self.model = model
        self.projection: nn.Linear | None = None
        if layers and teacher_width != model.config.hidden_size:
            self.projection = nn.Linear(model.config.hidden_size, teacher_width)
            initialize(self.projection, model.config.initializer_range)
        self._source, self._soft, self._hard, self._layers = source, soft, hard, tuple(layers)
        # The pair head runs wherever there is one: the engine wants a gradient of every parameter.
        self._wanted = Wanted.of(soft, [own for own, _ in layers], pairs=model.pair is not None)

    def forward(self, batch: MicroBatch) -> Contribution:
        """The batch's contribution.

        Its values: ``mlm`` and ``sop`` or ``nsp`` (``pairs``, where neither has a weight) against labels; ``ce``, the
        divergence from the teacher's words times the squared temperature, ``cos``, ``hidden``, ``relation`` and
        ``soft_sop``; ``agreement``, the share of places where student and teacher think the same word likeliest.

        In training, words cost the most, and nothing of them is computed that has no weight: without ``ce`` there is no
        ``agreement`` either, and without both of ``ce`` and ``mlm`` nothing is said of words.

        In evaluation mode there is all of it, and ``kl``, the divergence at temperature 1, at which agreement is then
        too: the mean of several teachers may have another likeliest word at each. Soft targets that hold at another
        temperature alone give none; those that are a part of a distribution give what ``Targets.divergence`` calls it.
        """
        told = self._source(batch)
        seen = states(self.model, batch, self._wanted)
        heard = self._soft.ce or not self.training
        worded, values = self._words(seen, told, batch) if heard else self._labelled(seen, batch)
        weighted = [worded]
        for name, weight, value in [*self._inside(seen, told, batch), *self._pairs(seen, told, batch)]:
            weighted.append(weight * value)
            values[name] = value
        loss = torch.stack(weighted).sum()
        return Contribution(loss, {name: value.detach().float() for name, value in {"loss": loss, **values}.items()})

    def _words(self, seen: States, told: SoftTargets, batch: MicroBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of words, against teacher and labels: weighted, and what is to be seen of them."""
        soft, counts = self._soft, batch.counts
        masked = max(1, counts.masked)
        places = max(1, counts.tokens) if soft.ce_at == "all" else masked
        words = self._scored(seen, told, batch, soft.temperature, self._hard.mlm / masked, soft.ce / places)
        values = {
            "mlm": words.mlm / masked,
            "mlm_accuracy": words.right / masked,
            "ce": words.kl / places,
            "agreement": words.agreed / places,
        }
        if not self.training and told.words.temperature in (None, 1):
            plain = self._scored(seen, told, batch, 1.0, 0.0, 1.0)
            values |= {told.words.divergence: plain.kl / places, "agreement": plain.agreed / places}
        return words.loss, values

    def _scored(
        self, seen: States, told: SoftTargets, batch: MicroBatch, temperature: float, mlm: float, ce: float
    ) -> SoftLosses:
        """Losses of words, summed, with these weights."""
        head, words = self.model.mlm, self.model.encoder.embeddings.word
        labels_R = batch.labels
        if self._soft.ce_at == "all":
            labels_R = torch.full_like(batch.ids, -1).index_copy(0, batch.masked, batch.labels)
        rows_RE = head.transform(seen.words_RH)
        return soft_linear_cross_entropy(
            rows_RE, words.weight, head.bias, labels_R, told.words, temperature, mlm_weight=mlm, ce_weight=ce
        )

    def _labelled(self, seen: States, batch: MicroBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """As ``_words``, against labels alone."""
        head, words = self.model.mlm, self.model.encoder.embeddings.word
        if not self._hard.mlm:  # the engine wants a gradient of every parameter
            nothing = head.transform(seen.words_RH[:0]).sum() + 0 * head.bias.sum()
            return nothing.to(torch.promote_types(nothing.dtype, torch.float32)), {}
        rows_MH = seen.words_RH.index_select(0, batch.masked) if self._soft.ce_at == "all" else seen.words_RH
        loss, right = head(rows_MH, words.weight, batch.labels)
        masked = max(1, batch.counts.masked)
        return self._hard.mlm / masked * loss, {"mlm": loss / masked, "mlm_accuracy": right / masked}

    def _inside(self, seen: States, told: SoftTargets, batch: MicroBatch) -> Iterator[tuple[str, float, Tensor]]:
        """Losses of hidden states, means over layers: their names, weights, and themselves."""
        rows = max(1, batch.counts.tokens if self._soft.hidden_at == "all" else batch.counts.masked)
        for name, weight, loss in (("cos", self._soft.cos, cosine_loss), ("hidden", self._soft.hidden, hidden_loss)):
            if weight:
                each = [loss(self._projected(seen.hidden_RH[own]), told.hidden_RH[its]) for own, its in self._layers]
                yield name, weight, torch.stack(each).sum() / (len(each) * rows)
        if self._soft.relation:
            assert seen.qkv_TH is not None and told.qkv_TH is not None
            (own_q, own_k, own_v), (q, k, v) = seen.qkv_TH, told.qkv_TH
            heads = self.model.config.num_heads
            related = relation_loss((own_q, own_k), (q, k), batch.packing, heads)
            related = related + relation_loss((own_v, own_v), (v, v), batch.packing, heads)
            yield "relation", self._soft.relation, related / max(1, batch.counts.tokens)

    def _pairs(self, seen: States, told: SoftTargets, batch: MicroBatch) -> Iterator[tuple[str, float, Tensor]]:
        """Losses of the pair head, if there is one, and its accuracy, as ``_inside``."""
        if self.model.pair is None:
            return
        logits_B2 = self.model.pair(seen.first_BH)
        weight, loss, right = told_pairs(logits_B2, batch, self._hard)
        kind = self._hard.pairs or "pairs"
        yield kind, weight, loss
        yield f"{kind}_accuracy", 0.0, right
        if self._soft.sop:
            assert told.pairs_B2 is not None
            divergence = pair_loss(logits_B2, told.pairs_B2, batch.order >= 0, self._soft.temperature)
            yield "soft_sop", self._soft.sop, divergence / max(1, batch.counts.pairs)

    def _projected(self, hidden_RH: Tensor) -> Tensor:
        return hidden_RH if self.projection is None else self.projection(hidden_RH)
