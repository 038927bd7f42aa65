"""The option that names a YAML file of options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile


class Recipe(ActionConfigFile):
    """Options from a YAML file. Raises TypeError, which the parser reports, where it is no YAML, names a key twice, or
    gives nothing where a section or a value is needed: jsonargparse alone would let that pass."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Check the file, and take its keys."""
        try:
            given = yaml.load(Path(values).read_text(encoding="utf-8"), _UniqueKeys)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TypeError(f"{values} is not valid YAML: {error}") from error
        if problems := list(_problems(given, parser.get_defaults().as_dict(), "")):
            raise TypeError(f"{values}: {'; '.join(problems)}")
        super().__call__(parser, cfg, values, option_string)


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _problems(given: Any, defaults: Any, where: str) -> list[str]:
    if given is None and defaults is not None:
        return [f"{where or 'the file'} is empty; leave it out for the default"]
    if not isinstance(defaults, Mapping):
        return []
    if not isinstance(given, Mapping):
        return [f"{where or 'the file'} is {given!r}, not keys with values"]
    known = [key for key in given if key in defaults]  # the parser names the others
    return [one for key in known for one in _problems(given[key], defaults[key], f"{where}.{key}".lstrip("."))]
