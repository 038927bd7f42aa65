"""The model: an unpadded encoder, its pretraining heads, presets, and Hugging Face import and export."""

from litebert.model.attention import Packing
from litebert.model.encoder import Encoder, ModelConfig
from litebert.model.heads import Output, PretrainingModel
from litebert.model.huggingface import from_huggingface, save_huggingface, to_huggingface
from litebert.model.presets import PRESETS

__all__ = [
    "PRESETS",
    "Encoder",
    "ModelConfig",
    "Output",
    "Packing",
    "PretrainingModel",
    "from_huggingface",
    "save_huggingface",
    "to_huggingface",
]
