"""A director of the pair and what can befall it, whatever agent runs there.

An adapter is what differs between agents: how it is started, stopped in good order, and told to switch over.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import Protocol

from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError, family_of, signal_all, wait_until
from tests.lab.pair.site import Site

STOP_LIMIT_S = 15.0
CUT = "lab_cut"
"""Name of the nftables tables that cut; an agent's own tables have other names."""


class Adapter(Protocol):
    """An agent that can own the VIP."""

    name: str
    lacks: frozenset[str]
    """Events that it has no answer to by design."""

    def prepare(self, pair: Site) -> None:
        """Start what the agents need beside themselves."""

    def argv(self, node: Node) -> Sequence[str]:
        """Return the command line that runs it in the foreground."""

    def switchover(self, owner: Director, successor: Director) -> None:
        """Move the VIP on an administrator's word; raise LabError where it cannot."""


class Director:
    """One director with its agent."""

    def __init__(self, node: Node, adapter: Adapter) -> None:
        self.node = node
        self.adapter = adapter
        self.process: subprocess.Popen[bytes] | None = None
        self.frozen: list[int] = []

    def start(self) -> None:
        """Start the agent."""
        self.process = self.node.start(self.adapter.argv(self.node), log=self.node.scratch / "agent.log")

    def pids(self) -> list[int]:
        """Return the agent's processes, parents first."""
        if self.process is None or self.process.poll() is not None:
            raise LabError(f"{self.node.name}: its agent does not run: {self.last_words()}")
        return family_of(self.process.pid)

    def stop(self) -> None:
        """Stop the agent in good order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=STOP_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL all of the agent's processes; the machine goes on."""
        signal_all(self.pids(), signal.SIGKILL)
        assert self.process is not None
        self.process.wait(timeout=STOP_LIMIT_S)

    def freeze(self) -> None:
        """SIGSTOP all of the agent's processes."""
        self.frozen = self.pids()
        signal_all(self.frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        """End the freeze."""
        signal_all(self.frozen, signal.SIGCONT)
        self.frozen = []

    def power_off(self) -> None:
        """Cut the power."""
        self.node.power_off()
        if self.process is not None:
            self.process.wait(timeout=STOP_LIMIT_S)
            self.process = None

    def power_on(self) -> None:
        """Boot the machine and start the agent."""
        self.node.boot()
        self.start()

    def cut_from(self, addresses: Sequence[str]) -> None:
        """Drop what these addresses send us: one way only; do it on both sides to cut a path."""
        rules = "".join(f"add rule inet {CUT} input ip saddr {address} drop\n" for address in addresses)
        self.node.run("nft", "-f", "-", stdin=f"{input_chain('inet')}{rules}")

    def deafen(self) -> None:
        """Lose everything that comes in over the network, ARP too; what we send goes out."""
        rules = f'add rule inet {CUT} input iifname != "lo" drop\nadd rule arp {CUT} input drop\n'
        self.node.run("nft", "-f", "-", stdin=f"{input_chain('inet')}{input_chain('arp')}{rules}")

    def heal(self) -> None:
        """End every cut."""
        for family in ("inet", "arp"):
            self.node.run("nft", "delete", "table", family, CUT, check=False)

    def has(self, address: str) -> bool:
        """Tell whether the director carries an address."""
        return f" {address}/" in self.node.run("ip", "-o", "address", "show", "dev", "eth0", check=False)

    def last_words(self) -> str:
        """Return the end of the agent's log."""
        log = self.node.scratch / "agent.log"
        return log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else "no log"


def input_chain(family: str) -> str:
    """Return nft commands that make an empty table with a chain for what comes in, before anything else sees it."""
    hook = "hook prerouting priority -450" if family == "inet" else "hook input priority -450"
    return (
        f"add table {family} {CUT}\ndelete table {family} {CUT}\nadd table {family} {CUT}\n"
        f"add chain {family} {CUT} input {{ type filter {hook}; }}\n"
    )


def wait_owner(directors: Sequence[Director], address: str, *, limit_s: float = 30.0) -> Director:
    """Wait until exactly one director carries the address, and return it."""
    owners: list[Director] = []

    def one() -> bool:
        owners[:] = [director for director in directors if director.has(address)]
        return len(owners) == 1

    wait_until(one, f"one director has {address}", limit_s=limit_s)
    return owners[0]
