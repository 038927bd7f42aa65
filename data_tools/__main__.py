"""``python -m data_tools VERB``: train a tokenizer, build shards, verify them, look into them, mask them anew."""

from __future__ import annotations

import sys
from types import ModuleType

from jsonargparse import ArgumentError, ArgumentParser

from data_tools.commands import build, tokenizer, verify

_VERBS: dict[str, ModuleType] = {"tokenizer": tokenizer, "build": build, "verify": verify}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m data_tools", description=__doc__, exit_on_error=False)
    verbs = parser.add_subcommands(required=True, dest="verb")
    for name, command in _VERBS.items():
        of_verb = ArgumentParser(description=command.__doc__, exit_on_error=False)
        command.arguments(of_verb)
        verbs.add_subcommand(name, of_verb)
    return parser


def main() -> int:
    """Run the verb on the command line; an error of the user's is one line on standard error and status 2."""
    parser = _parser()
    verb = next((word for word in sys.argv[1:] if word in _VERBS), "")
    try:
        options = parser.instantiate(parser.parse_args())
        _VERBS[options.verb].run(options[options.verb])
    except (ArgumentError, ValueError, OSError) as error:
        print(f"data_tools {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        left = str(error) or "nothing half-made is left under its name"
        print(f"data_tools {verb}: stopped; {left}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
