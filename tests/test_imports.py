"""Imports go one way: launcher -> litebert -> data_tools, and the ground floor stands on nothing of ours."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("data_tools", "litebert", "launcher")
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "launcher").glob("*.py"))
FILES = sorted(path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py"))

# The first room whose folder fits is the one whose rules hold: what its files must not import, and of our own
# packages the only parts that they may.
RULES: dict[str, tuple[set[str], tuple[str, ...]]] = {
    "data_tools": ({"torch", "deepspeed", "transformers"}, ("data_tools",)),
    "litebert/model": ({"deepspeed"}, ("litebert.model",)),
    "litebert": (set(SCRIPTS), ("litebert", "data_tools.shards", "data_tools.text", "data_tools.progress")),
    "launcher": (set(), ("litebert", "data_tools")),
}

# Of rooms of litebert, those that it must not know.
APART = {"litebert/export": ("finetune", "evaluate"), "litebert/evaluate": ("finetune", "export")}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write the whole name of what is imported"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, parts: tuple[str, ...]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_go_one_way(path: Path) -> None:
    room = next(room for room in RULES if path.is_relative_to(REPOSITORY / room))
    forbidden, ours = RULES[room]
    wrong = [
        f"line {line}: {name}"
        for line, name in imports(path)
        if name.split(".")[0] in forbidden or (name.split(".")[0] in ROOMS and not within(name, ours))
    ]
    assert not wrong, f"{room} must not import {wrong}"


@pytest.mark.parametrize("room", APART)
def test_rooms_that_others_stand_on_do_not_know_them(room: str) -> None:
    others = tuple(f"litebert.{other}" for other in APART[room])
    files = [path for path in FILES if path.is_relative_to(REPOSITORY / room)]
    assert files
    assert not [f"{path}:{line}" for path in files for line, name in imports(path) if within(name, others)]


def test_data_tools_runs_without_torch() -> None:
    names = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if path.is_relative_to(REPOSITORY / "data_tools")
    ]
    assert len(names) > 10
    code = f"import sys; [__import__(name) for name in {names}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_commands_start_without_what_few_of_them_need() -> None:
    """Seconds before the first line, of the shortest command too: torch's compiler takes one, DeepSpeed another."""
    slow = ("torch._dynamo", "deepspeed", "transformers", "onnxruntime")
    code = (
        f"import sys; [__import__(name) for name in {SCRIPTS}]; print([name for name in {slow} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "launcher", capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for group in ("data", "export") for line in project["optional-dependencies"][group]),
    ]
    declared = {Requirement(line).name.lower() for line in lines}
    distributions = packages_distributions()
    used = {name.split(".")[0] for path in FILES for _, name in imports(path)}
    libraries = used - set(ROOMS) - set(SCRIPTS) - sys.stdlib_module_names
    missing = {name for name in libraries if not declared & {each.lower() for each in distributions.get(name, [name])}}
    assert not missing


def test_constraints_pin_what_is_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = {
        requirement.name.lower(): next(iter(requirement.specifier)).version
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
        for requirement in [Requirement(line)]
    }
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in (Requirement(line) for lines in lists for line in lines):
        assert pins[requirement.name.lower()] in requirement.specifier, f"constraints.txt and {requirement}"


def test_no_script_shadows_a_library() -> None:
    """A script's own folder comes first on sys.path: launcher/inspect.py would be everybody's `inspect`."""
    assert not [name for name in SCRIPTS if name in sys.stdlib_module_names or importlib.util.find_spec(name)]
