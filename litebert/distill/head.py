"""A teacher's masked-word head in a file of its own: with it, `hidden` and `head` are read without a teacher."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from litebert.distill.codecs import TeacherHead
from litebert.model.encoder import ModelConfig
from litebert.model.heads import MLMHead, PretrainingModel

FILE = "head.safetensors"
_WORDS = "words"  # the decoder, which is the word embedding


def pack(model: PretrainingModel) -> bytes:
    """The file's content: weights as they are, the same bytes for the same ones."""
    weights = {**model.mlm.state_dict(), _WORDS: model.encoder.embeddings.word.weight.detach()}
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()})


def unpack(content: bytes, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> TeacherHead:
    """The head of a teacher of that shape, to compute on a device and in a dtype.

    Raises ValueError where the content is none.
    """
    try:
        weights = safetensors.torch.load(content)
        words = nn.Parameter(weights.pop(_WORDS).to(device, dtype), requires_grad=False)
        head = MLMHead(config)
        head.load_state_dict(weights)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"{FILE} holds no head of this teacher ({error!r})") from error
    head.to(device, dtype).requires_grad_(False)
    return TeacherHead(head.transform, words, head.bias)
