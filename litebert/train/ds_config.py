"""DeepSpeed's JSON: only how the engine works. What a run trains with belongs to the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from litebert.train.optimizers import OptimizerConfig

# Keys of DeepSpeed whose owner is the recipe, and where it says them. "auto" means just that, and is let
# through.
REPOSITORY = Path(__file__).resolve().parents[2]
OWNED = {
    "train_batch_size": "data.global_batch",
    "train_micro_batch_size_per_gpu": "data.micro_tokens",
    "gradient_accumulation_steps": "data.micro_tokens",
    "gradient_clipping": "optimizer.clip_norm",
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "bf16": "train.precision",
    "bfloat16": "train.precision",
    "fp16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
    "data_types": "train.precision",
    "activation_checkpointing": "train.recompute",
    "steps_per_print": "train.log_every",
}
ENGINE = {
    "aio",
    "comms_logger",
    "communication_data_type",
    "flops_profiler",
    "gradient_predivide_factor",
    "memory_breakdown",
    "prescale_gradients",
    "timers",
    "wall_clock_breakdown",
    "zero_optimization",
}


def read_ds_config(path: Path, precision: str) -> dict[str, Any]:
    """Reads and checks a DeepSpeed configuration.

    Args:
        path: a JSON file of engine keys.
        precision: the recipe's, to be checked against the ZeRO stage.

    Returns:
        the engine keys, without those set to "auto".

    Raises:
        ValueError: the file cannot be read, or a key in it is unknown or the recipe's; all such keys are
            named.
    """
    if not path.is_absolute() and not path.exists():
        path = REPOSITORY / path  # as the recipes write it, from wherever they are run
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a DeepSpeed JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a DeepSpeed JSON file: it holds no object")
    problems = []
    for key, value in content.items():
        if key in OWNED and value != "auto":
            problems.append(f"{key} belongs to the recipe: remove it here and set {OWNED[key]} there")
        elif key not in OWNED and key not in ENGINE:
            problems.append(f"{key} is not a key that litebert passes on to DeepSpeed: remove it")
    zero_problems = _zero_problems(content.get("zero_optimization", {}))
    problems += [f"zero_optimization{problem}" for problem in zero_problems]
    if not zero_problems and stage_of(content) == 0 and precision == "bf16":
        problems.append(
            "zero_optimization.stage 0 keeps no fp32 weights in bf16: use stage 1, 2 or 3, or precision fp32"
        )
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")
    return {key: value for key, value in content.items() if key in ENGINE}


def _zero_problems(zero: Any) -> list[str]:
    """What DeepSpeed would say against the section, in a line each: the key in it, and what is wrong."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig  # not before join_world

    try:
        checked = DeepSpeedZeroConfig.model_validate(zero)
    except ValueError as error:
        listed = error.errors()  # type: ignore[attr-defined]  # it is pydantic's
        return [f"{''.join(f'.{key}' for key in each['loc'])}: {each['msg']}" for each in listed]
    offload = checked.offload_optimizer
    problems = []
    if offload and offload.device == "nvme":
        problems.append(".offload_optimizer.device nvme hides the state that checkpoints are made of: use cpu")
    if offload and offload.ratio != 1:
        problems.append(f".offload_optimizer.ratio {offload.ratio} trains the rest with an AdamW of its own: remove it")
    return problems


def stage_of(ds_config: dict[str, Any]) -> int:
    """The ZeRO stage."""
    return int(ds_config.get("zero_optimization", {}).get("stage", 0))


def decides(ds_config: dict[str, Any], precision: str) -> bool:
    """Whether it is for the optimizer, on the device, to clip gradients and to refuse a step, not for DeepSpeed.

    DeepSpeed reads the norm back to the host to do so, once or twice a step. At stages 0, 1 and 2 it can be told not
    to; with bf16 at stage 1, where it takes its ``BF16_Optimizer``, and with offloading it cannot.
    """
    stage = stage_of(ds_config)
    offloads = "offload_optimizer" in ds_config.get("zero_optimization", {})
    return stage == 0 or (stage == 2 and not offloads) or (stage == 1 and precision == "fp32" and not offloads)


def complete(ds_config: dict[str, Any], optimizer: OptimizerConfig, precision: str) -> dict[str, Any]:
    """The configuration that DeepSpeed gets: the engine keys, and the recipe's numbers in DeepSpeed's words.

    Batches are counted by the loader, so DeepSpeed is told of one sample and one micro-step.
    """
    bf16 = precision == "bf16"
    ours = decides(ds_config, precision)
    zero = ds_config.get("zero_optimization", {})
    return {
        **ds_config,
        "zero_optimization": {**zero, "compute_grad_norm": False} if ours and stage_of(ds_config) else zero,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if ours else optimizer.clip_norm,
        "bf16": {"enabled": bf16, "check_grad_overflow": not ours},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # offloading keeps the optimizer that is ours
    }
