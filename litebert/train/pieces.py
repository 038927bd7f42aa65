"""What each rank holds of the parameters under ZeRO, and how whole parameters are made of it beside training."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from litebert.train.checkpoint import owners
from litebert.train.world import Channel


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of a parameter, or of a moment of it, laid flat.

    Attributes:
        shape: of the whole.
        start: where the stretch begins.
        values: fp32, on the CPU, [length]; empty where the rank holds nothing of it.
    """

    shape: tuple[int, ...]
    start: int
    values: Tensor


Pieces = Mapping[str, Mapping[str, Piece]]


def assemble(pieces: Pieces, channel: Channel) -> dict[str, dict[str, Tensor]]:
    """A rank's share of whole parameters, dealt out by size, each put together where it belongs. Collective.

    Args:
        pieces: this rank's, by kind and parameter name; the names and shapes are the same on all ranks, and the
            stretches of all ranks make up the whole.
        channel: between all ranks.

    Returns:
        this rank's share, by kind and parameter name, in the shape of the whole.
    """
    share: dict[str, dict[str, Tensor]] = {kind: {} for kind in pieces}
    spans = [json.loads(text) for text in channel.gather(json.dumps(_spans(pieces)))]
    for kind, named in pieces.items():
        owner = owners({name: math.prod(piece.shape) for name, piece in named.items()}, channel.size)
        for name, piece in named.items():
            if owner[name] == channel.rank:
                whole = torch.empty(math.prod(piece.shape))
                for rank, span in enumerate(spans):
                    start, length = span[kind][name]
                    stretch = whole[start : start + length]
                    if rank == channel.rank:
                        stretch.copy_(piece.values)
                    elif length:
                        channel.receive(stretch, rank)
                share[kind][name] = whole.reshape(piece.shape)
            elif len(piece.values):
                channel.send(piece.values, owner[name])
    return share


def _spans(pieces: Pieces) -> dict[str, dict[str, tuple[int, int]]]:
    return {
        kind: {name: (piece.start, len(piece.values)) for name, piece in named.items()}
        for kind, named in pieces.items()
    }
