"""`hawatch run`: the agent of a director."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from hawatch.errors import KernelError, LocalError

EXIT_UNAVAILABLE = 3
CONFIG_FILE, RUNTIME_DIR, STATE_DIR = Path("/etc/hawatch/hawatch.toml"), Path("/run/hawatch"), Path("/var/lib/hawatch")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch run`."""
    add_places(parser)
    parser.epilog = (
        "Runs until it is told to stop. Exit status: 0 stopped in good order, 1 it cannot run here, 2 mistakes in the "
        "configuration, 3 the kernel or a permission lacks what the configuration needs. With 2 and 3 nothing was "
        "touched; with 1 servers that need no check may be in the kernel's table."
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which agent this is; the witness has the same ones."""
    directory = "several agents on one machine have one each; default: "
    parser.add_argument(
        "-c", "--config", type=Path, default=CONFIG_FILE, metavar="FILE", help=f"configuration; default: {CONFIG_FILE}"
    )
    parser.add_argument("--node", default="", metavar="NAME", help="which node this is; default: by host name")
    parser.add_argument(
        "--runtime-dir", type=Path, default=RUNTIME_DIR, metavar="DIR", help=f"for ctl.sock; {directory}{RUNTIME_DIR}"
    )
    parser.add_argument(
        "--state-dir", type=Path, default=STATE_DIR, metavar="DIR",
        help=f"for what survives restarts; {directory}{STATE_DIR}",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the agent until it is told to stop; 3 when the kernel lacks what the configuration needs."""
    if not __debug__:
        raise LocalError("python -O takes away the checks that keep the agent safe; run it without")
    # The agent's modules are imported here, before anything is forked. They and the configuration stay for good:
    # looking for garbage among them would only cost time. The keeper collects once, and begins to collect then.
    gc.disable()
    from hawatch.agent.places import Places
    from hawatch.agent.start import start_agent

    places = Places(arguments.config.absolute(), arguments.runtime_dir.absolute(), arguments.state_dir.absolute())
    try:
        return start_agent(places, arguments.node)
    except KernelError as error:
        print(f"hawatch run: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
