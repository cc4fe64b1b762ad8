"""The `hawatch` command: finds the subcommand and imports nothing else."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from hawatch import __version__
from hawatch.errors import ConfigError, HawatchError, UsageError

COMMANDS = {
    "run": ("hawatch.cli.run", "run the agent of a director"),
    "witness": ("hawatch.cli.witness", "run a witness: a vote for a cluster that two directors share"),
    "keygen": ("hawatch.cli.keygen", "make a key file, or change the keys in one"),
    "check": ("hawatch.cli.check", "validate a configuration file"),
    "probe": ("hawatch.cli.probe", "run one probe once"),
    "ctl": ("hawatch.cli.ctl", "look at and steer a running agent"),
    "top": ("hawatch.cli.top", "the site at a glance on a terminal"),
    "schema": ("hawatch.cli.schema", "print the JSON Schema of the configuration, for editors"),
    "completion": ("hawatch.cli.completion", "print a completion script for bash or zsh"),
}
"""Each module offers `configure(parser)` and `run(arguments) -> exit status`."""

EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, EXIT_UNAVAILABLE = 0, 1, 2, 3


def make_parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser with the arguments of `commands` filled in, the others by name only."""
    parser = argparse.ArgumentParser(prog="hawatch", description="High availability agent for LVS directors.",
                                     epilog="`hawatch COMMAND --help` tells more of each.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"hawatch {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module_name, help_text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_text, description=help_text)
        if name in commands:
            importlib.import_module(module_name).configure(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 refused or failed, 2 usage, 3 nothing to talk to."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), "")
    arguments = make_parser([chosen]).parse_args(words)
    module = importlib.import_module(COMMANDS[arguments.command][0])
    try:
        return int(module.run(arguments))
    except (ConfigError, UsageError) as error:
        print(f"hawatch {arguments.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except HawatchError as error:
        print(f"hawatch {arguments.command}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
