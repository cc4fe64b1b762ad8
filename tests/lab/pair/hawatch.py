"""hawatch as the agent of the pair, with the third machine as its witness."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from hawatch.cluster.parameters import PROFILES
from hawatch.control import protocol
from hawatch.control.client import Client, NoAgentError
from hawatch.errors import PeerError
from hawatch.model import NS_PER_MS, NS_PER_S
from tests.lab.pair.machine import Machine
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError
from tests.lab.pair.site import DIRECTORS, VIP, VIP6

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
addresses = [{addresses}]
"""
WITNESS = '\n[[witness]]\nname = "rs1"\nlinks = ["10.99.0.3", "192.168.1.1"]\n'
KEYS = "active = 1\n1 = " + "2a" * 32 + "\n"
COMMAND = (sys.executable, "-m", "hawatch.cli.main")
MODE_SECRET = 0o600


class Hawatch:
    """Runs hawatch with directories of its own on each node."""

    def __init__(
        self, profile: str = "fast", quorum: str = "witness", *, extra: str = "", addresses: Sequence[str] = (VIP, VIP6)
    ) -> None:
        self.profile = profile
        self.quorum = quorum
        self.extra = extra
        self.addresses = tuple(addresses)
        self.name = f"hawatch {profile}" + ("" if quorum == "witness" else f" {quorum}")
        self.witness = quorum == "witness"
        self.parameters = PROFILES[profile]
        self.takeover_ms = self.parameters.lease_ns / NS_PER_MS
        # So long a new acceptor keeps silent, and a standby is no good without the witness.
        self.settle_s = self.parameters.silence_ns / NS_PER_S + 0.1

    def argv(self, node: Node) -> Sequence[str]:
        """Write the configuration and return the command line."""
        return self.command(node, "run" if node.name in DIRECTORS else "witness")

    def ready(self, machine: Machine) -> bool:
        """Tell whether an agent answers its administrator, or a witness has said that it answers."""
        if not machine.runs:
            raise LabError(f"{machine.name}: its agent ended: {machine.last_words()}")
        if machine.name not in DIRECTORS:
            return f"{machine.name} answers\n" in machine.words()
        return self.status(machine) is not None

    def well(self, directors: Sequence[Machine]) -> bool:
        """Tell whether both hear all others on every link, and agree on who owns the group."""
        found = [self.status(one) for one in directors]
        owners = {status["groups"][0]["owner"] for status in found if status and status["groups"]}
        return len(owners) == 1 and owners <= set(DIRECTORS) and all(map(is_whole, found))

    def status(self, machine: Machine) -> Any:
        """Return the status of a director's agent, None when it does not answer."""
        try:
            return self.ask(machine, protocol.Status())
        except (NoAgentError, PeerError):
            return None

    def ask(self, machine: Machine, request: protocol.Request) -> Any:
        """Put a request of an administrator to an agent; raise LabError when it refuses."""
        with Client(machine.node.scratch / "run" / "ctl.sock") as client:
            *_, last = client.ask(request)
        if isinstance(last, protocol.Refused):
            raise LabError(f"{machine.name} refused {type(request).__name__}: {last.reason}")
        assert isinstance(last, protocol.Done)
        return json.loads(bytes(last.data))

    def epoch(self, machine: Machine) -> int:
        """Return the group's epoch as a director knows it."""
        return int(self.ask(machine, protocol.Status())["groups"][0]["epoch"])

    def command(self, node: Node, what: str) -> list[str]:
        """Return the command line of an agent or a witness."""
        home = node.scratch
        text = CONFIGURATION.format(
            home=home, profile=self.profile, quorum=self.quorum, witness=WITNESS if self.witness else "",
            addresses=", ".join(f'{{ address = "{each}", interface = "eth0" }}' for each in self.addresses),
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


def is_whole(status: Any) -> bool:
    """Tell whether a director hears every other node on every link."""
    if status is None or status["quorum"]["reachable"] < status["quorum"]["acceptors"]:
        return False
    peers = [*status["directors"], *status["witnesses"]]
    return all(peer["state"] == "alive" and all(link["state"] == "up" for link in peer["links"]) for peer in peers)
