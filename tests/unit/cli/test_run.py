from __future__ import annotations

import argparse
from pathlib import Path

from hawatch.cli import run


def test_places_have_the_documented_defaults() -> None:
    parser = argparse.ArgumentParser()
    run.configure(parser)
    found = parser.parse_args([])
    assert found.config == Path("/etc/hawatch/hawatch.toml")
    assert (found.runtime_dir, found.state_dir) == (Path("/run/hawatch"), Path("/var/lib/hawatch"))
    assert found.node == ""
    found = parser.parse_args(["-c", "a.toml", "--node", "lvs2", "--runtime-dir", "r", "--state-dir", "s"])
    assert (found.config, found.node) == (Path("a.toml"), "lvs2")
