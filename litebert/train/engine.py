"""The DeepSpeed engine: micro-steps, updates, and its whole state by parameter name, at any ZeRO stage.

Read from DeepSpeed 0.19.8, because it leans on more than the documented interface:
- gradients are averaged over ranks, and a loss here is already a share of the global mean: hence times world
  size;
- hooks are hung on a module's outputs only where those are tensors, tuples, lists or dicts;
- fp32 weights and moments live in flat partitions, one a parameter group (stages 1, 2) or sub-group (stage
  3). DeepSpeed leaves the optimizer to make their state in its first step, and links names to it after the
  first group alone: hence the state is made here, and linked once it is whole.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from litebert.train.checkpoint import WEIGHTS, Checkpoint, owners
from litebert.train.ds_config import complete, decides, stage_of
from litebert.train.lamb import Lamb
from litebert.train.optimizers import MOMENTS, OptimizerConfig, build_optimizer
from litebert.train.partitions import segments, slices
from litebert.train.pieces import Piece
from litebert.train.world import World

T = TypeVar("T")

KINDS = (WEIGHTS, *MOMENTS)


class _Traversable(nn.Module):
    """The objective, with its contribution as a tuple, in which DeepSpeed finds the loss."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Any, question: Callable[[Any, Any], Any] | None = None) -> Any:
        if question:
            return question(self.objective, batch)
        contribution = self.objective(batch)
        return contribution.loss, contribution.values


class Engine:
    """Trains an objective; knows its parameters by the names the objective gives them."""

    def __init__(
        self,
        objective: nn.Module,
        optimizer: OptimizerConfig,
        precision: str,
        ds_config: dict[str, Any],
        world: World,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Builds the engine, with a checkpoint's weights and moments if there is one.

        Args:
            objective: a module that turns a micro-batch into a ``Contribution``; it is moved to the device.
            optimizer: the recipe's.
            precision: "fp32", or "bf16": bf16 weights and gradients, fp32 master weights, moments and
                accumulation.
            ds_config: engine keys, from ``read_ds_config``.
            world: the processes.
            checkpoint: where to go on from.
        """
        import deepspeed  # not before join_world has told it which accelerator there is

        self.world = world
        self._stage = stage_of(ds_config)
        self._decides = decides(ds_config, precision)
        self._clip_norm = optimizer.clip_norm
        objective.to(world.device)
        self._parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
        if checkpoint:
            self._load_weights(checkpoint)
        with contextlib.redirect_stdout(io.StringIO()):  # in bf16 it prints its memory use a dozen times
            self._engine, *_ = deepspeed.initialize(
                model=_Traversable(objective),
                optimizer=build_optimizer(self._parameters.values(), optimizer),
                config=complete(ds_config, optimizer, precision),
                dist_init_required=False,
            )
        if isinstance(self._engine.basic_optimizer, Lamb) and self._stage:
            lying = segments(self._engine, self._stage, self._parameters.values(), world.rank)
            self._engine.basic_optimizer.slice(lying, self._sum_over_ranks)
        self._make_state(updates=checkpoint.info["updates"] if checkpoint else 0)
        if checkpoint:
            self._load_state(checkpoint)

    def backward(self, batch: Any, last: bool) -> dict[str, Tensor]:
        """Adds a micro-batch's gradient to the step's; returns its values, 0-d shares of the step's means.

        Args:
            batch: a micro-batch on the device.
            last: whether it is this rank's last of the step, so that gradients meet over all ranks.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        loss, values = self._engine(batch)
        # A loss that is not finite may have gradients that are; not so here, whence every rank will know of it.
        scale = torch.where(loss.detach().isfinite(), float(self.world.size), torch.nan)
        self._engine.backward(loss * scale, scale_wrt_gas=False)
        return values

    @torch.no_grad()
    def ask(self, question: Callable[[Any, Any], T], batch: Any) -> T:
        """What a function of the objective and a batch says, in evaluation mode; changes nothing.

        At stage 3 all ranks ask at once: the weights come together as the objective's modules are used.
        """
        self._engine.eval()
        answer: T = self._engine.module(batch.to(self.world.device), question)
        self._engine.train()
        return answer

    def update(self, lr: float) -> tuple[Tensor, Tensor]:
        """Takes the optimizer step at a learning rate, or leaves everything as it is where a gradient is not finite.

        The device decides that by itself: the fused optimizer is told the norm, and neither clips nor skips by the
        host's hand. At stage 3, in bf16 at stage 1, and with offloading, DeepSpeed looks at the norm from the host;
        there it skips the step.

        Returns:
            the gradient's norm before clipping, 0-d; and whether the step was taken, 0-d, bool. The same on all ranks.
        """
        for group in self._engine.basic_optimizer.param_groups:
            group["lr"] = lr
        if self._decides:
            norm = self._norm()
            finite = norm.isfinite()
            self._engine.basic_optimizer.found_inf = (~finite).float()
            if self._clip_norm:
                self._engine.basic_optimizer.grad_scale = ((norm + 1e-6) / self._clip_norm).clamp(min=1.0).float()
            self._engine.step()
        else:
            self._engine.step()
            norm = self._engine.get_global_grad_norm()
        norm = torch.as_tensor(norm, dtype=torch.float64, device=self.world.device)
        return norm, norm.isfinite()

    def trust_ratios(self) -> Tensor | None:
        """LAMB's, of the last step: fp64 [matrices], the same on every rank; None without LAMB."""
        optimizer = self._engine.basic_optimizer
        return optimizer.trust_ratios if isinstance(optimizer, Lamb) else None

    def pieces(self) -> tuple[dict[str, dict[str, Piece]], int]:
        """What this rank holds of the fp32 state, copied to the host; asks nothing of other ranks.

        Returns:
            pieces by kind ("weights", "exp_avg", "exp_avg_sq") and parameter name; all ranks' together are the whole.
            And how many updates the optimizer has made.
        """
        owner = owners(
            {name: _shape(parameter).numel() for name, parameter in self._parameters.items()}, self.world.size
        )
        held: dict[str, dict[str, Piece]] = {kind: {} for kind in KINDS}
        for name, parameter in self._parameters.items():
            for kind in KINDS:
                start, tensor = self._held(parameter, kind)
                if self._stage == 0 and owner[name] != self.world.rank:
                    tensor = tensor[:0]  # every rank has all of it
                values = tensor.detach().to("cpu", torch.float32, copy=True)
                held[kind][name] = Piece(tuple(_shape(parameter)), start, values)
        some = next(iter(self._engine.basic_optimizer.state.values()))
        return held, int(some["step"].item())

    def _load_weights(self, checkpoint: Checkpoint) -> None:
        """Before DeepSpeed cuts the parameters up."""
        weights = checkpoint.tensors(WEIGHTS)
        if weights.keys() != self._parameters.keys():
            strange = ", ".join(sorted(weights.keys() ^ self._parameters.keys()))
            raise ValueError(f"{checkpoint.folder} has not the parameters of this model: {strange}")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])

    def _make_state(self, updates: int) -> None:
        for flat in slices(self._engine, self._stage):
            state = {moment: torch.zeros_like(flat, requires_grad=False) for moment in MOMENTS}
            state["step"] = torch.tensor(float(updates), device=flat.device)
            self._engine.basic_optimizer.state[flat] = state
        if self._stage in (1, 2):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _load_state(self, checkpoint: Checkpoint) -> None:
        """Master weights too: DeepSpeed made its own from weights already rounded to bf16."""
        for kind in KINDS:
            tensors = checkpoint.tensors(kind)
            for name, parameter in self._parameters.items():
                self._scatter(parameter, kind, tensors[name])

    def _norm(self) -> Tensor:
        """Of the step's whole gradient; infinite where it is not finite."""
        if self._stage:
            return self._engine.optimizer.scaled_global_norm()
        gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _sum_over_ranks(self, tensor: Tensor) -> None:
        """In place; offloaded optimizers have tensors on the host, where NCCL cannot go."""
        on_device = tensor.to(self.world.device)
        dist.all_reduce(on_device)
        tensor.copy_(on_device)

    def _held(self, parameter: nn.Parameter, kind: str) -> tuple[int, Tensor]:
        """The stretch of a parameter, or moment, laid flat, that this rank keeps in fp32: its start, and itself."""
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        if self._stage == 0:
            return 0, self._whole(parameter, kind).flatten()
        if self._stage == 3:
            weight = kind == WEIGHTS
            own = safe_get_local_fp32_param(parameter) if weight else safe_get_local_optimizer_state(parameter, kind)
            start = min(self.world.rank * own.numel(), _shape(parameter).numel())
            return start, own.flatten()[: _shape(parameter).numel() - start]  # without the padding
        fragment = parameter._hp_mapping  # type: ignore[attr-defined]  # what ZeRO-1 and 2 link to it
        if fragment is None:
            return 0, torch.empty(0)
        return fragment.lp_fragment_address.start, fragment.get_hp_fragment(None if kind == WEIGHTS else kind)

    def _whole(self, parameter: nn.Parameter, kind: str) -> Tensor:
        """A parameter or moment where every rank has all of them."""
        return parameter if kind == WEIGHTS else self._engine.basic_optimizer.state[parameter][kind]

    def _scatter(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        from deepspeed import utils

        if self._stage == 0:
            with torch.no_grad():
                self._whole(parameter, kind).copy_(value)
        elif self._stage == 3:
            # DeepSpeed's setter for a whole parameter fails where the ranks do not divide it; the one for a
            # slice not.
            size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]  # what ZeRO-3 left of it here
            own = _slice(value, size, self.world.rank)
            if kind == WEIGHTS:
                utils.safe_set_local_fp32_param(parameter, own)
            else:
                utils.safe_set_local_optimizer_state(parameter, own, kind)
        elif kind == WEIGHTS:
            utils.safe_set_full_fp32_param(parameter, value)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, kind)


def _shape(parameter: nn.Parameter) -> torch.Size:
    """Of the whole parameter: ZeRO-3 leaves an empty one in its place."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def _slice(value: Tensor, size: int, rank: int) -> Tensor:
    """A rank's slice of a tensor laid flat and padded with zeros until the slices are equal."""
    own = value.flatten()[rank * size : (rank + 1) * size]
    return nn.functional.pad(own, (0, size - own.numel()))
