"""Models to and from Hugging Face folders (config.json, model.safetensors): ALBERT, BERT and DistilBERT.

A `Family` says how one of these architectures names what we have; the rest follows from our own parameter
names. Our `qkv` is Hugging Face's query, key and value, stacked. Sharing that an architecture has no word for
is written out, layer by layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel


@dataclass(frozen=True)
class Family:
    """One architecture's names: of config keys, modules, the tied decoder, and the blocks in its layer {}."""

    model_type: str
    class_name: str
    keys: dict[str, str]
    modules: dict[str, str]
    decoder: str
    layer: str
    blocks: dict[str, tuple[str, ...]]


def _embeddings(prefix: str) -> dict[str, str]:
    return {
        "encoder.embeddings.word": f"{prefix}.embeddings.word_embeddings",
        "encoder.embeddings.position": f"{prefix}.embeddings.position_embeddings",
        "encoder.embeddings.token_type": f"{prefix}.embeddings.token_type_embeddings",
        "encoder.embeddings.norm": f"{prefix}.embeddings.LayerNorm",
    }


_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "token_types": "type_vocab_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
    "initializer_range": "initializer_range",
}
ALBERT = Family(
    model_type="albert",
    class_name="Albert",
    keys=_KEYS | {"embedding_size": "embedding_size"},
    modules=_embeddings("albert")
    | {
        "encoder.embeddings.projection": "albert.encoder.embedding_hidden_mapping_in",
        "mlm": "predictions",
        "mlm.dense": "predictions.dense",
        "mlm.norm": "predictions.LayerNorm",
        "pair.pooler": "albert.pooler",
        "pair.classifier": "sop_classifier.classifier",
    },
    decoder="predictions.decoder",
    layer="albert.encoder.albert_layer_groups.{}.albert_layers.0",
    blocks={
        "attention.qkv": ("attention.query", "attention.key", "attention.value"),
        "attention.out": ("attention.dense",),
        "attention.norm": ("attention.LayerNorm",),
        "ffn.up": ("ffn",),
        "ffn.down": ("ffn_output",),
        "ffn.norm": ("full_layer_layer_norm",),
    },
)
BERT = Family(
    model_type="bert",
    class_name="Bert",
    keys=_KEYS,
    modules=_embeddings("bert")
    | {
        "mlm": "cls.predictions",
        "mlm.dense": "cls.predictions.transform.dense",
        "mlm.norm": "cls.predictions.transform.LayerNorm",
        "pair.pooler": "bert.pooler.dense",
        "pair.classifier": "cls.seq_relationship",
    },
    decoder="cls.predictions.decoder",
    layer="bert.encoder.layer.{}",
    blocks={
        "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.out": ("attention.output.dense",),
        "attention.norm": ("attention.output.LayerNorm",),
        "ffn.up": ("intermediate.dense",),
        "ffn.down": ("output.dense",),
        "ffn.norm": ("output.LayerNorm",),
    },
)
DISTILBERT = Family(
    model_type="distilbert",
    class_name="DistilBert",
    keys={
        "vocab_size": "vocab_size",
        "hidden_size": "dim",
        "num_layers": "n_layers",
        "num_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "max_positions": "max_position_embeddings",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "initializer_range": "initializer_range",
    },
    modules=_embeddings("distilbert")
    | {"mlm": "vocab_projector", "mlm.dense": "vocab_transform", "mlm.norm": "vocab_layer_norm"},
    decoder="vocab_projector",
    layer="distilbert.transformer.layer.{}",
    blocks={
        "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.out": ("attention.out_lin",),
        "attention.norm": ("sa_layer_norm",),
        "ffn.up": ("ffn.lin1",),
        "ffn.down": ("ffn.lin2",),
        "ffn.norm": ("output_layer_norm",),
    },
)
FAMILIES = {family.model_type: family for family in (ALBERT, BERT, DISTILBERT)}
ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "relu": "relu"}
OUR_ACTIVATIONS = {ours: theirs for theirs, ours in ACTIVATIONS.items()}  # of two names for one, the latter
DISTILBERT_EPS = 1e-12  # written into Hugging Face's code, not into its config
REQUIRED = {
    "inner_group_num": 1,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
# Buffers that older versions saved, and a pooler that has no classifier above it.
UNUSED = ("position_ids", "pooler.weight", "pooler.bias", "pooler.dense.weight", "pooler.dense.bias")


def to_huggingface(
    model: PretrainingModel, *, pad_id: int, cls_id: int, sep_id: int, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The content of config.json, and copies of the weights in a dtype by Hugging Face's names.

    With a pooler it is a ForPreTraining model, else a ForMaskedLM; the tied decoder is not repeated. A model
    without token types that is no DistilBERT gets one token type, of zeros.
    """
    config = model.config
    family = _family_of(config)
    weights: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for theirs in _their_names(name, config, family):
            chunks = parameter.detach().chunk(len(theirs))
            weights |= {key: chunk.to(dtype, copy=True) for key, chunk in zip(theirs, chunks, strict=True)}
    described = {theirs: getattr(config, ours) for ours, theirs in family.keys.items()} | {
        "architectures": [family.class_name + ("ForPreTraining" if config.pooler else "ForMaskedLM")],
        "model_type": family.model_type,
        "dtype": str(dtype).removeprefix("torch."),
        "tie_word_embeddings": True,
        "pad_token_id": pad_id,
        "bos_token_id": cls_id,
        "eos_token_id": sep_id,
        family.keys["activation"]: OUR_ACTIVATIONS[config.activation],
    }
    if family is ALBERT:
        described |= {"num_hidden_groups": _groups(config), "inner_group_num": 1}
        if config.embedding_size == config.hidden_size:
            weights |= {key: value.to(dtype) for key, value in _identity_projection(config.hidden_size).items()}
    if family is not DISTILBERT and not config.token_types:
        described[family.keys["token_types"]] = 1
        name = family.modules["encoder.embeddings.token_type"]
        weights[f"{name}.weight"] = torch.zeros(1, config.embedding_size, dtype=dtype)
    return described, weights


def save_huggingface(
    model: PretrainingModel,
    folder: Path | str,
    *,
    pad_id: int,
    cls_id: int,
    sep_id: int,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a folder that transformers' Auto classes load."""
    described, weights = to_huggingface(model, pad_id=pad_id, cls_id=cls_id, sep_id=sep_id, dtype=dtype)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def from_huggingface(folder: Path | str) -> PretrainingModel:
    """The model in a Hugging Face folder, in fp32, with the pair head if the folder holds one.

    Reads config.json and model.safetensors, nothing that could run code. ValueError, naming the folder, if
    one is missing or damaged, or if they do not make an ALBERT, BERT or DistilBERT with a masked-word head that
    `ModelConfig` can say.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: no {name}: save the model there with transformers' save_pretrained")
    try:
        described = _described(folder / "config.json")
        family = FAMILIES.get(str(described.get("model_type")))
        if family is None:
            raise ValueError(f"model_type {described.get('model_type')!r} is none of {', '.join(FAMILIES)}")
        state = {_modern(key): tensor.float() for key, tensor in _stored(folder / "model.safetensors").items()}
        classifier = family.modules.get("pair.classifier")
        config = _config_of(described, family, pooler=f"{classifier}.weight" in state)
        return _model_of(state, config, family)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _described(path: Path) -> dict[str, Any]:
    """The content of config.json."""
    try:
        described = json.loads(path.read_bytes())
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path.name} is damaged ({error}): copy the model again") from error
    if not isinstance(described, dict):
        raise ValueError(f"{path.name} holds no keys and values: copy the model again")
    return described


def _stored(path: Path) -> dict[str, Tensor]:
    """The weights of model.safetensors, by Hugging Face's names."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged or cut off ({error}): copy the model again") from error


def _family_of(config: ModelConfig) -> Family:
    factorised = config.embedding_size != config.hidden_size
    shared = config.num_layers > min(config.attention_blocks, config.ffn_blocks)
    if factorised or shared:
        return ALBERT
    bare = not config.token_types and not config.pooler and config.layer_norm_eps == DISTILBERT_EPS
    return DISTILBERT if bare else BERT


def _groups(config: ModelConfig) -> int:
    """How many layers Hugging Face stores. It has no word for sharing attention or feed-forward alone."""
    return config.num_groups if config.sharing == "all" else config.num_layers


def _their_names(name: str, config: ModelConfig, family: Family) -> list[tuple[str, ...]]:
    """For each stored layer that uses our parameter, the names of theirs that are stacked in it."""
    in_block = re.fullmatch(r"encoder\.(attention|ffn)\.(\d+)\.(\w+)\.(\w+)", name)
    if in_block is None:
        module, _, kind = name.rpartition(".")
        return [(f"{family.modules[module]}.{kind}",)]
    part, block, module, kind = in_block.groups()
    stored = config.layers[:: config.num_layers // _groups(config)]
    return [
        tuple(f"{family.layer.format(layer)}.{their}.{kind}" for their in family.blocks[f"{part}.{module}"])
        for layer, blocks in enumerate(stored)
        if int(block) == blocks[part == "ffn"]
    ]


def _identity_projection(size: int) -> dict[str, Tensor]:
    """Hugging Face's ALBERT projects even where E equals H; we, like Google's, only where they differ."""
    name = ALBERT.modules["encoder.embeddings.projection"]
    return {f"{name}.weight": torch.eye(size), f"{name}.bias": torch.zeros(size)}


def _config_of(described: dict[str, Any], family: Family, pooler: bool) -> ModelConfig:
    problems = [f"config.json lacks {key}" for key in family.keys.values() if key not in described]
    problems += _mistyped(described, family)
    problems += [
        f"{key} {described[key]!r} is not supported, only {value!r}"
        for key, value in REQUIRED.items()
        if described.get(key, value) != value
    ]
    activation = described.get(family.keys["activation"], "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        problems.append(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
    if problems:
        raise ValueError("; ".join(problems))
    fields = {ours: described[theirs] for ours, theirs in family.keys.items()}
    fields["activation"] = ACTIVATIONS[activation]
    fields.setdefault("embedding_size", fields["hidden_size"])
    if family is DISTILBERT:
        fields |= {"token_types": 0, "layer_norm_eps": DISTILBERT_EPS}
    if family is ALBERT and described.get("num_hidden_groups", 1) != fields["num_layers"]:
        fields |= {"sharing": "all", "num_groups": described.get("num_hidden_groups", 1)}
    return ModelConfig(pooler=pooler, **fields)


def _mistyped(described: Mapping[str, Any], family: Family) -> list[str]:
    """What is said of numbers in config.json that are none."""
    kinds: dict[str, tuple[str, tuple[type, ...]]] = {
        "int": ("whole number", (int,)),
        "float": ("number", (int, float)),
    }
    wanted = {field.name: kinds.get(str(field.type)) for field in fields(ModelConfig)}
    numbers = {theirs: kind for ours, theirs in family.keys.items() if theirs in described and (kind := wanted[ours])}
    if "num_hidden_groups" in described:
        numbers["num_hidden_groups"] = kinds["int"]
    return [
        f"{key} {described[key]!r} is no {name}"
        for key, (name, types) in numbers.items()
        if isinstance(described[key], bool) or not isinstance(described[key], types)
    ]


def _model_of(state: dict[str, Tensor], config: ModelConfig, family: Family) -> PretrainingModel:
    """Takes out of `state` what the model needs, and refuses if that is not there, or not all there was."""
    with torch.device("meta"):
        model = PretrainingModel(config)
    weights: dict[str, Tensor] = {}
    problems = []
    for name, parameter in model.named_parameters():
        (theirs,) = _their_names(name, config, family)
        missing = [key for key in theirs if key not in state]
        problems += [f"no weight {key}" for key in missing]
        if not missing:
            weights[name] = torch.cat([state.pop(key) for key in theirs])
            if weights[name].shape != parameter.shape:
                problems.append(f"{theirs[0]} is not of the shape that config.json says")
    if problems:
        raise ValueError("; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" * (len(problems) > 3)))
    repeated = {
        f"{family.decoder}.weight": weights["encoder.embeddings.word.weight"],
        f"{family.decoder}.bias": weights["mlm.bias"],
    }
    if family is ALBERT and config.embedding_size == config.hidden_size:
        repeated |= _identity_projection(config.hidden_size)
    for key, expected in repeated.items():
        if not torch.equal(state.pop(key, expected), expected):
            raise ValueError(f"{key} is not {'the identity' if 'mapping' in key else 'tied'}")
    unknown = [key for key in state if not key.endswith(UNUSED)]
    if unknown:
        raise ValueError(f"weights of an unknown use: {', '.join(unknown[:3])}")
    model.load_state_dict(weights, assign=True)
    return model


def _modern(key: str) -> str:
    """LayerNorm's parameters as PyTorch names them: conversions from TensorFlow say gamma and beta."""
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", key))
