"""The `hawatch` command: finds the subcommand and imports nothing else."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

from hawatch import __version__
from hawatch.agent.output import open_standard_descriptors
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
OUTPUT_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the kernel says when standard output takes nothing, as on a full disk."""


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
    _make_output_usable()
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), "")
    arguments = make_parser([chosen]).parse_args(words)
    module = importlib.import_module(COMMANDS[arguments.command][0])
    try:
        status = int(module.run(arguments))
        sys.stdout.flush()
        return status
    except (ConfigError, UsageError) as error:
        print(f"hawatch {arguments.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except HawatchError as error:
        print(f"hawatch {arguments.command}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _give_output_up()
        return EXIT_REFUSED
    except OSError as error:
        if error.errno not in OUTPUT_LOST or error.filename is not None:
            raise
        _give_output_up()
        print(f"hawatch {arguments.command}: the output cannot be written: {error.strerror}", file=sys.stderr)
        return EXIT_REFUSED


def _make_output_usable() -> None:
    """Have standard output and standard error be there, whoever closed them, and take whatever characters there are."""
    open_standard_descriptors()
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as this process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _give_output_up() -> None:
    """Write nothing more: what could not be written would be tried, and complained of, again at the end."""
    if sys.stdout is sys.__stdout__:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
