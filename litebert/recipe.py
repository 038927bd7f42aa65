"""A recipe: everything that decides what a run computes, as one YAML file, overridden from the command line.

Each section is the config dataclass of the part it configures. Whatever is wrong with a recipe is reported at
once, in one line that names keys and file.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from litebert.data.plan import AUTO, DataConfig
from litebert.distill.config import DistillConfig
from litebert.model.encoder import ModelConfig
from litebert.model.presets import PRESETS
from litebert.objectives import ObjectiveConfig
from litebert.train.config import TrainConfig
from litebert.train.health import HealthConfig
from litebert.train.optimizers import OptimizerConfig
from litebert.train.schedule import ScheduleConfig

T = TypeVar("T")

DEFAULT_PRESET = "albert-tiny"
TRACED = 5  # steps of a trace, where their number is not said

# What a continued run may change; anything else makes it another run.
CHANGEABLE = {
    "data.micro_tokens",
    "data.corrupt",
    "data.cache",
    "data.cache_gb",
    "train.steps",
    "train.ds_config",
    "train.recompute",
    "train.log_every",
    "train.evaluate_every",
    "train.evaluate_samples",
    "train.checkpoint_every",
    "train.keep_last",
    "train.keep_every",
    "train.max_hours",
    "distill.patience",
    "health.max_bad_steps",
    "health.spike_deviations",
    "health.spike_window",
    "health.plateau_steps",
    "health.plateau_nats",
}

SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "train": TrainConfig,
    "health": HealthConfig,
}
OF_DISTILLATION: dict[str, type] = {"distill": DistillConfig}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A checked recipe; ``distill`` is None where nothing is learnt from a teacher.

    ``model.vocab_size`` is no key of a recipe: the data decide it (``model_config``).
    """

    model: ModelConfig
    data: DataConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    train: TrainConfig
    health: HealthConfig
    distill: DistillConfig | None = None

    def model_config(self, vocab_size: int) -> ModelConfig:
        """The model for a vocabulary."""
        return dataclasses.replace(self.model, vocab_size=vocab_size)

    def contradictions(self) -> list[str]:
        """Values that are fine by themselves and not together."""
        problems = []
        warmup, steps = self.schedule.warmup_steps, self.train.steps
        if warmup > steps:
            problems.append(f"schedule.warmup_steps {warmup} exceeds train.steps {steps}")
        if (pairs := self.objective.pairs) and not self.model.pooler:
            problems.append(f"objective.{pairs} needs model.pooler true: set it, or objective.{pairs} 0")
        if self.distill and self.distill.sop and not self.model.pooler:
            problems.append("distill.sop needs model.pooler true: set it, or distill.sop 0")
        if not any([*self.objective.weights, *(self.distill.weights if self.distill else ())]):
            problems.append(f"every weight of {' and '.join(['objective', *['distill'] * bool(self.distill)])} is 0")
        return problems

    def check_data(self, seq_length: int, pairs: str) -> None:
        """Checks the recipe against the data.

        Args:
            seq_length: tokens of the data's longest samples.
            pairs: what the data's pairs are for: ``sop``, ``nsp`` or ``none``.

        Raises:
            ValueError: they do not fit; all problems are listed.
        """
        problems = [
            f"{key} {value} is less than the {seq_length} tokens of the data's longest samples: raise it"
            for key, value in {
                "data.micro_tokens": self.data.micro_tokens,
                "model.max_positions": self.model.max_positions,
            }.items()
            if isinstance(value, int) and value < seq_length
        ]
        if self.objective.pairs not in (None, pairs):
            here = f"objective.{self.objective.pairs} {getattr(self.objective, self.objective.pairs)}"
            instead = f", and objective.{pairs} instead" if pairs != "none" else ""
            problems.append(
                f"{here} has nothing to learn from data built with pairs.objective {pairs}: set it to 0{instead}"
            )
        if problems:
            raise ValueError("; ".join(problems))

    def settled(self, bf16: bool, before: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe with a precision wherever it says auto.

        Args:
            bf16: whether the devices have instructions for it.
            before: the recipe that the run began with, as ``to_dict`` gives it, if it has begun.
        """
        changes = {}
        for name in ("train", "distill"):
            section = getattr(self, name)
            if section and section.precision == AUTO:
                began = (before or {}).get(name, {}).get("precision")
                precision = began or ("bf16" if bf16 else "fp32")
                changes[name] = dataclasses.replace(section, precision=precision)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values by section and key, as YAML and JSON can hold them."""
        content = dataclasses.asdict(self)
        del content["model"]["vocab_size"]
        if self.distill:
            content["distill"]["layers"] = list(self.distill.layers)
        else:
            del content["distill"]
        content["data"]["mixture"] = {str(step): list(shares) for step, shares in self.data.mixture.items()}
        content["optimizer"]["betas"] = list(self.optimizer.betas)
        return content

    def to_yaml(self) -> str:
        """The resolved recipe, which ``--config`` reads again."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """The recipe that ``to_dict`` was called on.

        Raises:
            ValueError: something in it is unknown or wrong.
        """
        sections = _sections("distill" in content)
        return _build(_attempt("recipe", lambda: _parser("", sections).parse_object(dict(content))), "recipe", sections)


def fixed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe, as ``to_dict`` gives it, that a continued run may not change: by dotted key."""
    return {key: value for key, value in flat(content).items() if key not in CHANGEABLE}


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line that starts a run.

    Attributes:
        recipe: the file and the overrides.
        data: folders of shards, paths or URLs.
        run: folder of the run.
        traced: steps to record a trace of.
        check: whether only to see if it could begin.
        teachers: folders of what is learnt from.
        soft: folders of stored soft targets, paths or URLs, one for each of data; or none.
        fleet: where teachers are that answer over the network: folders or files of their addresses, or URIs.
        token_file, tls_roots: of the URIs: the token, and certificates in PEM; or none.
    """

    recipe: Recipe
    data: tuple[str, ...]
    run: Path
    traced: int = 0
    check: bool = False
    teachers: tuple[Path, ...] = ()
    soft: tuple[str, ...] = ()
    fleet: tuple[str, ...] = ()
    token_file: Path | None = None
    tls_roots: Path | None = None


def parse_command(argv: Sequence[str], description: str, *, distils: bool = False) -> Command:
    """Reads ``--config FILE --data SHARDS --run RUN``, perhaps ``--profile STEPS`` or ``--check``, and any
    ``--section.key value``.

    Args:
        distils: whether it has ``--teacher MODEL``, ``--soft SOFT`` or ``--fleet FLEET`` as well, and the section
            ``distill``.

    Raises:
        ValueError: a key is unknown, a value is wrong, or values contradict each other; one line names all of
            them.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--data", nargs="+")  # jsonargparse would take it for the section of that name
    own.add_argument("--config", type=Path)
    own.add_argument("--profile", type=int, nargs="?", const=TRACED, default=0)
    own.add_argument("--check", action="store_true")
    sections = _sections(distils)
    if distils:
        own.add_argument("--teacher", type=Path, nargs="+", default=[])
        own.add_argument("--soft", nargs="+", default=[])
        own.add_argument("--fleet", nargs="+", default=[])
        own.add_argument("--token-file", type=Path)
        own.add_argument("--tls-roots", type=Path)
    files, overrides = _attempt("command line", lambda: own.parse_known_args(argv))
    arguments = list(overrides)
    if files.config:
        _check_file(files.config, sections)
        arguments = ["--config", str(files.config), *overrides]
    dotted = [flag[2:].split("=")[0] for flag in overrides if flag.startswith("--") and "." in flag]
    _refuse_unknown(dotted, "command line", sections)
    parsed = _attempt("command line", lambda: _parser(description, sections).parse_args(arguments))
    parsed = _parser(description, sections, parsed.model.preset).parse_args(arguments)
    wanted = {"--data": "where the shards are", "--run": "where the run is to go"}
    given = {"--data": files.data, "--run": parsed.run}
    if distils:
        wanted["--teacher"] = "what is learnt from (or --soft, or --fleet)"
        given["--teacher"] = files.teacher or files.soft or files.fleet or None
        if files.soft and files.fleet:
            raise ValueError("--soft and --fleet: answers are either stored or sent: give one of them")
    if missing := [flag for flag, value in given.items() if value is None]:
        raise ValueError(f"{' and '.join(missing)} missing: say {', '.join(wanted[flag] for flag in missing)}")
    source = " and ".join([*([str(files.config)] if files.config else []), *(["command line"] if overrides else [])])
    recipe = _build(parsed, source or "command line", sections)
    command = Command(recipe, tuple(files.data), Path(parsed.run), files.profile, files.check)
    if not distils:
        return command
    return dataclasses.replace(
        command,
        teachers=tuple(files.teacher),
        soft=tuple(files.soft),
        fleet=tuple(files.fleet),
        token_file=files.token_file,
        tls_roots=files.tls_roots,
    )


def _sections(distils: bool) -> dict[str, type]:
    return SECTIONS | OF_DISTILLATION if distils else SECTIONS


def _parser(description: str, sections: Mapping[str, type], preset: str = DEFAULT_PRESET) -> ArgumentParser:
    more = "{--teacher MODEL, --soft SOFT, --fleet FLEET} " if "distill" in sections else ""
    usage = f"%(prog)s --config FILE --data SHARDS {more}--run RUN [--section.key value ...]"
    parser = ArgumentParser(usage=usage, description=description, exit_on_error=False, print_config=None)
    parser.add_argument("--config", action=ActionConfigFile, help="recipe: a YAML file of the keys below, by section")
    parser.add_argument("--run", metavar="RUN", help="folder of the run; started again with the same one, it goes on")
    parser.add_argument("--profile", metavar="STEPS", help=f"steps to record in RUN/profile, {TRACED} if not said")
    parser.add_argument(
        "--check", action="store_true", help="only see whether the run could begin: recipe, data, folder and disk"
    )
    if "distill" in sections:
        parser.add_argument(
            "--teacher", metavar="MODEL", help="a run, a checkpoint or a Hugging Face folder; several are averaged"
        )
        parser.add_argument(
            "--soft",
            metavar="SOFT",
            help="instead of asking it: its answers, that launcher/teach.py kept, or their URL",
        )
        parser.add_argument(
            "--fleet",
            metavar="FLEET",
            help="or those of launcher/teach.py --serve: the folder that it names, files in it, or grpc://HOST:PORT",
        )
        parser.add_argument("--token-file", metavar="FILE", help="token of a grpc://HOST:PORT")
        parser.add_argument("--tls-roots", metavar="FILE", help="certificates, in PEM, that vouch for grpc+tls://...")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # DeepSpeed's launcher passes it
    for section, config in sections.items():
        parser.add_class_arguments(config, section, skip={"vocab_size"})
    assert parser.groups is not None
    parser.groups["model"].add_argument(
        "--model.preset",
        choices=sorted(PRESETS),
        default=preset,
        help="shape that the other keys of model start from",
    )
    shape = dataclasses.asdict(PRESETS[preset])
    del shape["vocab_size"]
    parser.set_defaults({f"model.{key}": value for key, value in shape.items()})
    for action in parser._actions:
        action.required = False  # a shape has no defaults of its own, but the preset's
        if action.dest in sections:  # a file for one section: an option too many
            action.help = argparse.SUPPRESS
        if action.dest == "data":
            action.metavar, action.help = (
                "SHARDS",
                "folder of shards, made by python -m data_tools build, or its URL; several are mixed by data.mixture",
            )
    return parser


def _check_file(path: Path, sections: Mapping[str, type]) -> None:
    """Reads a recipe's file by itself, so that its errors name it."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {_one_line(error)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a recipe: it should be keys by section")
    _refuse_unknown(flat(content), str(path), sections)
    _attempt(str(path), lambda: _parser("", sections).parse_args(["--config", str(path)]))


def _refuse_unknown(keys: Iterable[str], source: str, sections: Mapping[str, type]) -> None:
    known = {f"{section}.{field.name}" for section, config in sections.items() for field in dataclasses.fields(config)}
    known = known - {"model.vocab_size"} | {"model.preset"}
    problems = []
    keys = list(keys)
    if strange := {key.split(".")[0] for key in keys} & OF_DISTILLATION.keys() - sections.keys():
        problems.append(f"section {', '.join(sorted(strange))} is for launcher/distill.py, which has a --teacher")
        keys = [key for key in keys if key.split(".")[0] not in strange]
    for key in keys:
        if key == "model.vocab_size":
            problems.append("model.vocab_size is for the data to decide: remove it")
        elif key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            problems.append(f"unknown key {key}" + (f" (did you mean {close[0]}?)" if close else ""))
    if problems:
        raise ValueError(f"{source}: {'; '.join(problems)}")


def _build(parsed: Namespace, source: str, configs: Mapping[str, type]) -> Recipe:
    """Makes the sections, and reports the problems of all of them together."""
    sections, problems = {}, []
    for name, config in configs.items():
        values = parsed[name].as_dict()
        if endless := [f"{key} {value} is no finite number" for key, value in values.items() if not _finite(value)]:
            problems.append(f"{name}: {'; '.join(endless)}")
            continue
        if name == "model":
            values["vocab_size"] = PRESETS[values.pop("preset")].vocab_size
        try:
            sections[name] = config(**values)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if not problems:
        recipe = Recipe(**sections)
        problems = recipe.contradictions()
    if problems:
        raise ValueError(f"{source}: {'; '.join(problems)}")
    return recipe


def _finite(value: object) -> bool:
    """Whether the numbers in a value, if there are any, are numbers and not infinite."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _attempt(source: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (argparse.ArgumentError, ValueError) as error:
        raise ValueError(f"{source}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Two levels of keys as one, dotted."""
    found: dict[str, Any] = {}
    for section, values in content.items():
        if isinstance(values, Mapping):
            found |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            found[section] = values
    return found
