"""The whole agent with an IPVS table in files, as a process of its own: python -m ... CONFIG NODE DIRECTORY."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hawatch.agent.main import keep
from hawatch.agent.places import Places
from hawatch.agent.settings import load_settings
from hawatch.console import spool
from hawatch.model import NS_PER_S
from tests.unit.agent.fake_kernel import file_kernel


def main() -> int:
    if backoff_s := os.environ.get("HAWATCH_TEST_BACKOFF_S"):  # for tests of mail that is tried again
        spool.BACKOFF_NS = (int(float(backoff_s) * NS_PER_S),)
    config, node, directory = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    places = Places(config, directory / "run", directory / "state")
    return keep(load_settings(places, node), file_kernel(directory))


if __name__ == "__main__":
    sys.exit(main())
