"""hawatch as the agent of the pair, with the third machine as its witness."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.pair.director import Director
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError
from tests.lab.pair.site import VIP, VIP6, Site

CONFIGURATION = """
[cluster]
name = "lab"
key_file = "{home}/keys"
profile = "{profile}"
quorum = "{quorum}"
gateway = ["192.168.1.254"]

[[director]]
name = "lvs1"
links = ["10.99.0.1", "192.168.1.5"]

[[director]]
name = "lvs2"
links = ["10.99.0.2", "192.168.1.6"]
{witness}
[[group]]
name = "web"
prefer = "lvs1"
failback = "manual"
addresses = [{{ address = "{vip}/32", interface = "eth0" }}, {{ address = "{vip6}/128", interface = "eth0" }}]
"""
WITNESS = '\n[[witness]]\nname = "rs1"\nlinks = ["10.99.0.3", "192.168.1.1"]\n'
KEYS = "active = 1\n1 = " + "2a" * 32 + "\n"
COMMAND = (sys.executable, "-m", "hawatch.cli.main")
MODE_SECRET = 0o600


class Hawatch:
    """Runs hawatch with directories of its own on each node."""

    lacks: frozenset[str] = frozenset()

    def __init__(self, profile: str = "fast", quorum: str = "witness", extra: str = "") -> None:
        self.profile = profile
        self.quorum = quorum
        self.extra = extra
        self.name = f"hawatch {profile}" + ("" if quorum == "witness" else f" {quorum}")

    def prepare(self, pair: Site) -> None:
        """Start the witness."""
        if self.quorum == "witness":
            assert pair.witness is not None
            pair.witness.start(self.command(pair.witness, "witness"), log=pair.witness.scratch / "agent.log")

    def argv(self, node: Node) -> Sequence[str]:
        """Write the configuration and return the command line."""
        return self.command(node, "run")

    def command(self, node: Node, what: str) -> list[str]:
        """Return the command line of an agent or a witness."""
        home = node.scratch
        text = CONFIGURATION.format(
            home=home, profile=self.profile, quorum=self.quorum, vip=VIP, vip6=VIP6,
            witness=WITNESS if self.quorum == "witness" else "",
        )  # fmt: skip
        (home / "hawatch.toml").write_text(text + self.extra, encoding="utf-8")
        keys = home / "keys"
        keys.write_text(KEYS, encoding="ascii")
        os.chmod(keys, MODE_SECRET)
        return [
            *COMMAND, what, "--config", str(home / "hawatch.toml"), "--node", node.name,
            "--runtime-dir", str(home / "run"), "--state-dir", str(home / "state"),
        ]  # fmt: skip

    def ctl(self, node: Node, *words: str, check: bool = True) -> str:
        """Run `hawatch ctl` on a node."""
        argv = [*COMMAND, "ctl", "--runtime-dir", str(node.scratch / "run"), *words]
        return node.run(*argv, check=check)

    def switchover(self, owner: Director, successor: Director) -> None:
        """Move the VIP on an administrator's word."""
        said = self.ctl(owner.node, "switchover", "--group", "web", "--to", successor.node.name)
        if f"{successor.node.name} owns web" not in said:
            raise LabError(f"switchover said {said!r}")


def log_of(path: Path) -> str:
    """Return the end of a log."""
    return path.read_text(encoding="utf-8", errors="replace")[-3000:] if path.exists() else ""
