"""The whole agent with an IPVS table in files, as a process of its own: python -m ... CONFIG NODE DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

from hawatch.agent.main import keep
from hawatch.agent.places import Places
from hawatch.agent.settings import load_settings
from tests.unit.agent.fake_kernel import file_kernel


def main() -> int:
    config, node, directory = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    places = Places(config, directory / "run", directory / "state")
    return keep(load_settings(places, node), file_kernel(directory))


if __name__ == "__main__":
    sys.exit(main())
