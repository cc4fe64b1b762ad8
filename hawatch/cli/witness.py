"""`hawatch witness`: a vote for a cluster that two directors share."""

from __future__ import annotations

import argparse

from hawatch.cli.run import add_places
from hawatch.errors import LocalError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch witness`."""
    add_places(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the witness until it is told to stop."""
    if not __debug__:
        raise LocalError("python -O takes away the checks that keep the agent safe; run it without")
    from hawatch.agent.places import Places
    from hawatch.agent.witness import run_witness

    places = Places(arguments.config.absolute(), arguments.runtime_dir.absolute(), arguments.state_dir.absolute())
    return run_witness(places, arguments.node)
