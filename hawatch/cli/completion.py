"""`hawatch completion`: the script by which a shell completes our commands, made from the commands themselves."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import shtab

SHELLS = ("bash", "zsh")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch completion`."""
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    from hawatch.cli.main import COMMANDS, make_parser

    present = [name for name, (module, _) in COMMANDS.items() if find_spec(module) is not None]
    print(shtab.complete(make_parser(present), shell=arguments.shell))
    return 0
