"""Training as torch alone computes it: one process, whole batches, whole parameters, no DeepSpeed and no engine.

python -m tests.distributed.plain      writes golden/*.txt anew, after a change that is meant to change losses
"""

from __future__ import annotations

import copy
import math
import tempfile
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from litebert.data.loader import Loader
from litebert.data.split import Split
from litebert.objectives import PretrainingObjective
from litebert.recipe import parse_command
from litebert.train.initial import initial_model
from litebert.train.optimizers import OptimizerConfig
from tests.distributed.bench import Bench

GOLDEN = Path(__file__).with_name("golden")
GOLDEN_STEPS = 100
# Clipped at almost every step, and without dropout, which is drawn rank by rank.
GOLDEN_RUN = ("--train.steps", str(GOLDEN_STEPS), "--model.dropout", "0", "--optimizer.clip_norm", "0.5")
GOLDEN_OPTIMIZERS = {
    "adamw": ("--optimizer.kind", "adamw", "--optimizer.lr", "3e-3"),
    "lamb": ("--optimizer.kind", "lamb", "--optimizer.lr", "2e-2"),
}


class PlainLamb:
    """Algorithm 2 of You et al. (2020), a parameter after another; vectors take Adam's step."""

    def __init__(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> None:
        self.parameters = parameters
        self.config = config
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self.steps = 0

    def step(self, lr: float) -> list[float]:
        """Returns the trust ratio of each matrix."""
        self.steps += 1
        beta1, beta2 = self.config.betas
        ratios = []
        for parameter, (m, v) in zip(self.parameters, self.moments, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            m.copy_(beta1 * m + (1 - beta1) * gradient)
            v.copy_(beta2 * v + (1 - beta2) * gradient * gradient)
            update = m / (1 - beta1**self.steps) / ((v / (1 - beta2**self.steps)).sqrt() + self.config.eps)
            ratio = 1.0
            if parameter.ndim > 1:
                update += self.config.weight_decay * parameter.data
                weight_norm, update_norm = (math.sqrt(x.double().pow(2).sum()) for x in (parameter.data, update))
                ratio = weight_norm / update_norm if weight_norm and update_norm else 1.0
                ratios.append(ratio)
            parameter.data -= lr * ratio * update
        return ratios


class PlainAdamW:
    """torch's, one parameter after another."""

    def __init__(self, parameters: list[nn.Parameter], config: OptimizerConfig) -> None:
        decay = config.weight_decay
        groups = [{"params": [p], "weight_decay": decay if p.ndim > 1 else 0.0} for p in parameters]
        self.adamw = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, foreach=False)

    def step(self, lr: float) -> None:
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()


def plain_training(arguments: list[str], most: int | None = None) -> tuple[list[float], nn.Module]:
    """The loss of every step, or the first so many, of a pretraining command with a linear schedule, and the model."""
    torch.set_num_threads(1)
    command = parse_command(arguments, "")
    recipe, split = command.recipe, Split(command.data[0], "train")
    model = initial_model(recipe, split)
    objective = PretrainingObjective(model, recipe.objective)
    parameters = list(model.parameters())
    optimizer = (PlainLamb if recipe.optimizer.kind == "lamb" else PlainAdamW)(parameters, recipe.optimizer)
    whole = copy.copy(recipe.data)
    object.__setattr__(whole, "micro_tokens", 1_000_000)
    steps, warmup = recipe.train.steps, recipe.schedule.warmup_steps
    losses = []
    for step in islice(Loader(split, whole, 0, 1, 0, steps), most):
        (batch,) = step.micro_batches
        contribution = objective(batch)
        model.zero_grad()
        contribution.loss.backward()
        losses.append(contribution.loss.item())
        clip(parameters, recipe.optimizer.clip_norm)
        warm, left = (step.number + 1) / warmup, (steps - step.number) / (steps - warmup)
        optimizer.step(recipe.optimizer.lr * min(1.0, warm, left))
    return losses, model


def clip(parameters: list[nn.Parameter], limit: float) -> None:
    gradients: list[Tensor] = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(gradient.double().pow(2).sum()) for gradient in gradients))
    for gradient in gradients:
        gradient *= min(1.0, limit / (norm + 1e-6))


def golden_losses(kind: str) -> list[float]:
    """The losses of 100 plain steps on the bench's text, as they were committed."""
    return [float(line) for line in (GOLDEN / f"{kind}.txt").read_text().splitlines()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for kind, optimizer in GOLDEN_OPTIMIZERS.items():
            losses, _ = plain_training(bench.arguments("plain", *GOLDEN_RUN, *optimizer))
            (GOLDEN / f"{kind}.txt").write_text("".join(f"{loss!r}\n" for loss in losses))
