"""A recipe in words."""

from __future__ import annotations

from litebert.model.encoder import ModelConfig
from litebert.recipe import Recipe

LOSSES = {"objective": ("mlm", "sop", "nsp"), "distill": ("ce", "cos", "sop", "hidden", "relation")}


def architecture(shape: ModelConfig) -> str:
    """Layers and widths of a model, and what its layers share."""
    shared = f"shared by layers: {shape.sharing}" + f" in {shape.num_groups} groups" * (shape.num_groups > 1)
    return (
        f"{shape.num_layers} layers of width {shape.hidden_size}, {shape.num_heads} heads, "
        f"feed-forward {shape.intermediate_size}, embeddings {shape.embedding_size}, {shared}"
    )


def training(recipe: Recipe, step: int) -> str:
    """How many steps were done, and how."""
    return (
        f"{step:,} steps of {recipe.data.global_batch} samples, {recipe.optimizer.kind}, peak "
        f"learning rate {recipe.optimizer.lr:g}, {recipe.train.precision}, seed {recipe.train.seed}"
    )


def objective(recipe: Recipe) -> str:
    """What was learnt, with its weights: from labels, and from a teacher if it was asked anything."""
    named = recipe.to_dict()

    def weights(part: str) -> str:
        of = named.get(part) or {}
        return ", ".join(f"{name} {of[name]:g}" for name in LOSSES[part] if of.get(name))

    labels, teacher = weights("objective"), weights("distill")
    return "; ".join([*([labels] if labels else []), *([f"from a teacher {teacher}"] if teacher else [])])
