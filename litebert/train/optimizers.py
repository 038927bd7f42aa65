"""The client optimizer that DeepSpeed wraps: which parameters it decays, and with which numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, by its own names


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its numbers.

    Attributes:
        name: adamw (Loshchilov & Hutter 2019, decoupled weight decay).
        lr: peak learning rate; the schedule scales it.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: decay of weight matrices and embeddings; biases and norms are never decayed.
        clip_norm: largest global gradient norm; larger gradients are scaled down to it. 0 turns clipping off.
    """

    name: Literal["adamw"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        if self.lr <= 0:
            problems.append(f"lr {self.lr} is not positive")
        if not all(0 <= beta < 1 for beta in self.betas):
            problems.append(f"betas {list(self.betas)} are not within 0 and 1")
        if self.eps <= 0:
            problems.append(f"eps {self.eps} is not positive")
        if self.weight_decay < 0:
            problems.append(f"weight_decay {self.weight_decay} is negative")
        if self.clip_norm < 0:
            problems.append(f"clip_norm {self.clip_norm} is negative; 0 turns clipping off")
        if problems:
            raise ValueError("; ".join(problems))


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """An AdamW over two groups: matrices, which decay, and vectors (biases, norms), which do not."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,  # besides speed, for its found_inf and grad_scale: it clips and skips on the device
    )
