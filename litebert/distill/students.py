"""What a student begins as: layers of its teacher, and its embeddings and heads (Sanh et al. 2019, section 3).

DistilBERT has no token types. Its authors leave the teacher's out; here the type of segment A, which every token of a
single text has, is added to the positions instead: the student's embeddings are then the teacher's, bit for bit but
for the order of a sum, on segment A, and on segment B they lack the difference of the two types alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from litebert.model.encoder import Embeddings
from litebert.model.heads import PretrainingModel


def layers_of(teacher_layers: int, student_layers: int, wanted: Sequence[int] = ()) -> tuple[int, ...]:
    """The teacher's layer for each of the student's, numbered from 1.

    Args:
        wanted: the list itself; if empty, layers evenly apart of which the last is the teacher's last.

    Raises:
        ValueError: the list does not fit the two models.
    """
    if not wanted:
        return tuple(-(-number * teacher_layers // student_layers) for number in range(1, student_layers + 1))
    if len(wanted) != student_layers or max(wanted) > teacher_layers:
        raise ValueError(
            f"distill.layers {list(wanted)}: name {student_layers} layers, one for each of the student's, "
            f"of the teacher's 1 to {teacher_layers}"
        )
    return tuple(wanted)


@torch.no_grad()
def begin_as(student: PretrainingModel, teacher: PretrainingModel, layers: Sequence[int]) -> list[str]:
    """Copies into a student what has the same shape in its teacher; the rest stays as it is.

    Args:
        layers: the teacher's layer for each of the student's, numbered from 1. What several of the student's layers
            share is copied from the first of theirs.

    Returns:
        names of the parts that were not copied, because the shapes differ or the teacher has none.
    """
    own, its = student.encoder, teacher.encoder
    parts: list[tuple[str, nn.Module | None, nn.Module | None]] = [
        ("words", own.embeddings.word, its.embeddings.word),
        ("token types", own.embeddings.token_type, its.embeddings.token_type),
        ("norm of embeddings", own.embeddings.norm, its.embeddings.norm),
        ("projection of embeddings", own.embeddings.projection, its.embeddings.projection),
        ("masked-word head", student.mlm, teacher.mlm),
        ("pair head", student.pair, teacher.pair),
    ]
    same_heads = student.config.num_heads == teacher.config.num_heads  # else another layout of the same shape
    # From the last to the first, which has the last word on what it shares.
    for (attention, ffn), layer in reversed([*zip(student.config.layers, layers, strict=True)]):
        its_attention, its_ffn = teacher.config.layers[layer - 1]
        parts.append(("attention", own.attention[attention], its.attention[its_attention] if same_heads else None))
        parts.append(("feed-forward", own.ffn[ffn], its.ffn[its_ffn]))
    left = {name for name, part, source in parts if part is not None and not _copied(part, source)}
    return sorted(left | ({"positions"} if not _positions_copied(own.embeddings, its.embeddings) else set()))


def _positions_copied(own: Embeddings, its: Embeddings) -> bool:
    """Copies as many as both have, with the type of segment A where the student has no types; whether it did."""
    shared = slice(min(own.position.num_embeddings, its.position.num_embeddings))
    if own.position.embedding_dim != its.position.embedding_dim:
        return False
    own.position.weight[shared] = its.position.weight[shared]
    if own.token_type is None and its.token_type is not None:
        own.position.weight[shared] += its.token_type.weight[0]
    return True


def _copied(own: nn.Module, its: nn.Module | None) -> bool:
    """Copies all parameters of a module, if the other has the same; whether it did."""
    if its is None:
        return False
    theirs = dict(its.named_parameters())
    if {name: p.shape for name, p in own.named_parameters()} != {name: p.shape for name, p in theirs.items()}:
        return False
    for name, parameter in own.named_parameters():
        parameter.copy_(theirs[name])
    return True
