"""The client optimizer that DeepSpeed wraps: which parameters it decays, and with which numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

from litebert.train.lamb import Lamb

MOMENTS = ("exp_avg", "exp_avg_sq")  # what both optimizers keep of each parameter, by their own names


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its numbers.

    Attributes:
        kind: adamw (Loshchilov & Hutter 2019, decoupled weight decay), or lamb (You et al. 2020), which also scales the
            step of each weight matrix and embedding by its norm, for batches of thousands.
        lr: peak learning rate; the schedule scales it. LAMB's is of another size: ALBERT's is 1.76e-3 at batch 4096.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: decay of weight matrices and embeddings; biases and norms are never decayed, nor scaled by LAMB,
            as in the code of BERT and ALBERT.
        clip_norm: largest global gradient norm; larger gradients are scaled down to it. 0 turns clipping off.
    """

    kind: Literal["adamw", "lamb"] = "adamw"
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
    """An optimizer over two groups: matrices, which decay, and vectors (biases, norms), which do not."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices: dict[str, Any] = {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay}
    vectors: dict[str, Any] = {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0}
    if config.kind == "lamb":
        matrices["adapt"], vectors["adapt"] = True, False
    groups = [group for group in (matrices, vectors) if group["params"]]
    if config.kind == "lamb":
        return Lamb(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,  # besides speed, for its found_inf and grad_scale: it clips and skips on the device
    )
