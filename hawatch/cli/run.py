"""`hawatch run`: the agent of a director."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from hawatch.errors import KernelError, LocalError

EXIT_UNAVAILABLE = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch run`."""
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which agent this is; the witness has the same ones."""
    parser.add_argument(
        "-c", "--config", type=Path, default=Path("/etc/hawatch/hawatch.toml"), metavar="FILE", help="configuration"
    )
    parser.add_argument("--node", default="", metavar="NAME", help="which node this is; default: by host name")
    parser.add_argument("--runtime-dir", type=Path, default=Path("/run/hawatch"), metavar="DIR", help="for ctl.sock")
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/hawatch"), metavar="DIR", help="kept for good")


def run(arguments: argparse.Namespace) -> int:
    """Run the agent until it is told to stop; 3 when the kernel lacks what the configuration needs."""
    if not __debug__:
        raise LocalError("python -O takes away the checks that keep the agent safe; run it without")
    # The agent's modules are imported here, before anything is forked. They and the configuration stay for good:
    # looking for garbage among them would only cost time. The keeper collects once, and begins to collect then.
    gc.disable()
    from hawatch.agent.head_start import take_head_start
    from hawatch.agent.places import Places

    places = Places(arguments.config.absolute(), arguments.runtime_dir.absolute(), arguments.state_dir.absolute())
    take_head_start(places, arguments.node)
    from hawatch.agent.main import run_agent

    try:
        return run_agent(places, arguments.node)
    except KernelError as error:
        print(f"hawatch run: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
