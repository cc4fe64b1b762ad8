"""A machine of the pair, director or witness, and what can befall it, whatever agent runs there.

An adapter is what differs between agents: how it is started, stopped in good order, and told to switch over.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import LabError, family_of, now_ns, run, signal_all, wait_until
from tests.lab.uml import has_ipvs

STOP_LIMIT_S = 15.0
CUT = "lab_cut"
"""Name of the nftables tables that cut; an agent's own tables have other names."""


class Adapter(Protocol):
    """An agent that can own the VIP."""

    name: str
    witness: bool
    """The third machine runs an agent, too."""
    takeover_ms: float
    """How long the owner's silence may last before another takes over: hawatch's lease."""
    settle_s: float
    """When its last agent is at work, a pair is as it should be within so long."""

    def argv(self, node: Node) -> Sequence[str]:
        """Return the command line that runs it in the foreground."""

    def ready(self, machine: Machine) -> bool:
        """Tell whether an agent is at work."""

    def well(self, directors: Sequence[Machine]) -> bool:
        """Tell whether the directors see each other, and everything else that they need."""


class Machine:
    """One machine with its agent."""

    def __init__(self, node: Node, adapter: Adapter) -> None:
        self.node = node
        self.adapter = adapter
        self.process: subprocess.Popen[bytes] | None = None
        self.frozen: list[int] = []
        self.off = False
        """It has no power."""
        self.started_ns = 0
        """When its agent was started last."""
        self.said = 0
        """Bytes of its log from before that."""

    @property
    def name(self) -> str:
        """Name of the machine."""
        return self.node.name

    @property
    def log(self) -> Path:
        """What its agent says."""
        return self.node.scratch / "agent.log"

    @property
    def runs(self) -> bool:
        """Tell whether its agent runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the agent."""
        self.started_ns = now_ns()
        self.said = self.log.stat().st_size if self.log.exists() else 0
        self.process = self.node.start(self.adapter.argv(self.node), log=self.log)

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
        self.off = True
        self.node.power_off()
        if self.process is not None:
            self.process.wait(timeout=STOP_LIMIT_S)
            self.process = None

    def power_on(self) -> None:
        """Boot the machine and start the agent."""
        self.node.boot()
        self.off = False
        self.start()

    def cut_from(self, addresses: Sequence[str]) -> None:
        """Drop what these addresses send us: one way only; do it on both sides to cut a path."""
        if has_ipvs():  # the guest's nftables knows bridges only
            lines = [f"qdisc add dev {link.peer} ingress" for link in self.node.links]
            lines += [
                f"filter add dev {link.peer} parent ffff: protocol ip u32 match ip src {address}/32 action drop"
                for link in self.node.links
                for address in addresses
            ]
            self.node.run("tc", "-batch", "-", stdin="\n".join(lines) + "\n")
            return
        self._cut("".join(f"add rule inet {CUT} input ip saddr {address} drop\n" for address in addresses))

    def deafen(self) -> None:
        """Lose everything that comes in over the network, ARP too; what we send goes out."""
        self._cut(f'add rule inet {CUT} input iifname != "lo" drop\n')
        self._cut(f"add rule arp {CUT} input drop\n", family="arp")

    def lose(self, percent: int, port: int) -> None:
        """Lose a part of the datagrams to a port, at random."""
        self._cut(f"add rule inet {CUT} input udp dport {port} numgen random mod 100 < {percent} drop\n")

    def _cut(self, rules: str, *, family: str = "inet") -> None:
        hook = "hook prerouting priority -450" if family == "inet" else "hook input priority -450"
        chain = f"add table {family} {CUT}\nadd chain {family} {CUT} input {{ type filter {hook}; }}\n"
        self.node.run("nft", "-f", "-", stdin=f"{chain}{rules}")

    def plug_into(self, bridges: Sequence[str]) -> None:
        """Plug the machine's cables into these bridges, in the order of its links; "" for nowhere. Carriers stay."""
        lines = [
            f"link set {self.node.port(link)} " + (f"master {bridge}" if bridge else "nomaster")
            for link, bridge in zip(self.node.links, bridges, strict=True)
        ]
        run(["ip", "-n", self.node.lab.switch, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def heal(self) -> None:
        """End every cut."""
        if self.off:
            return
        self.plug_into([link.bridge for link in self.node.links])
        if has_ipvs():
            for link in self.node.links:
                self.node.run("tc", "qdisc", "del", "dev", link.peer, "ingress", check=False)
            return
        tables = self.node.run("nft", "list", "tables")
        for family in ("inet", "arp"):
            if f"table {family} {CUT}\n" in tables:
                self.node.run("nft", "delete", "table", family, CUT)

    def has(self, address: str) -> bool:
        """Tell whether the director carries an address."""
        return not self.off and f" {address}/" in self.node.run("ip", "-o", "address", "show", "dev", "eth0")

    def words(self) -> str:
        """Return what its agent has said since its start."""
        return self.log.read_bytes()[self.said :].decode("utf-8", "replace") if self.log.exists() else ""

    def last_words(self) -> str:
        """Return the end of that."""
        return self.words()[-2000:]


def wait_owner(directors: Sequence[Machine], address: str, *, limit_s: float = 30.0) -> Machine:
    """Wait until exactly one director carries the address, and return it."""
    owners: list[Machine] = []

    def one() -> bool:
        owners[:] = [director for director in directors if director.has(address)]
        return len(owners) == 1

    wait_until(one, f"one director has {address}", limit_s=limit_s)
    return owners[0]
