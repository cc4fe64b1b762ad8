"""Network namespaces as machines: nodes with real links on bridges, all gone when the lab is left.

The bridges are in a namespace of their own ("switch"), so that nothing is made in the host's: removing the
namespaces removes everything. Names begin with ``hwpair<pid>x<number>-``; what a killed earlier run left behind is removed
when the next lab starts. Files live under ``/run/hwpair<pid>x<number>`` (a tmpfs in User-Mode Linux: daemons that drop
their privileges need a file system that knows owners, and hostfs does not).
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from tests.lab.pair.shell import LabError, alive, run, signal_all, wait_until

PREFIX = "hwpair"
OURS = re.compile(rf"^{PREFIX}(\d+)x\d+(-[a-z0-9]+)?$")
"""A namespace or a directory of a lab; the first number is its process."""
NUMBERS = itertools.count(1)
SWITCH = "switch"
SCRATCH_PARENT = Path("/run")
END_LIMIT_S = 20.0
MTU = 1500


@dataclass(frozen=True, slots=True)
class Link:
    """One interface of a node: the bridge it is plugged into and its addresses, with prefix lengths."""

    name: str
    bridge: str
    addresses: tuple[str, ...]
    mac: str
    bridged: bool = False
    """It is a bridge of its own over the cable: a kernel may have nftables for bridges only."""

    @property
    def peer(self) -> str:
        """Return the name of the cable's end here."""
        return f"{self.name}p" if self.bridged else self.name


@dataclass(slots=True)
class Node:
    """A machine of the lab: one network namespace."""

    lab: Lab
    name: str
    links: tuple[Link, ...]
    sysctls: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    """Further lines for `ip -batch`, run in the node when it boots."""

    @property
    def namespace(self) -> str:
        """Name of the network namespace."""
        return f"{self.lab.prefix}-{self.name}"

    @property
    def scratch(self) -> Path:
        """The node's own directory."""
        path = self.lab.scratch / self.name
        path.mkdir(mode=0o755, exist_ok=True)
        return path

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` here (it execs: the process id is the program's own)."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(self, *argv: str, stdin: str = "", check: bool = True, limit_s: float = 60.0) -> str:
        """Run a command here and return what it printed."""
        return run(self.argv(argv), stdin=stdin, check=check, limit_s=limit_s)

    def ip(self, *lines: str) -> None:
        """Run `ip` command lines here, in one process."""
        run(["ip", "-n", self.namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def start(
        self, argv: Sequence[str], *, log: Path | IO[bytes] | None = None, **options: object
    ) -> subprocess.Popen[bytes]:
        """Start a program here in a session of its own; its words go to `log`."""
        target = open(log, "ab") if isinstance(log, Path) else log  # noqa: SIM115 (closed below)
        try:
            process = subprocess.Popen(
                self.argv(argv),
                stdin=subprocess.DEVNULL,
                stdout=target if target is not None else subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,  # type: ignore[call-overload]
            )
            self.lab.processes.append(process)
            return process  # type: ignore[no-any-return]
        finally:
            if isinstance(log, Path) and target is not None:
                target.close()

    def pids(self) -> list[int]:
        """Return the processes that run here."""
        return [int(pid) for pid in run(["ip", "netns", "pids", self.namespace], check=False).split()]

    def boot(self) -> None:
        """Make the namespace with its links, up and addressed."""
        run(["ip", "netns", "add", self.namespace])
        switch = self.lab.switch
        for link in self.links:
            port = self.port(link)
            run(
                ["ip", "-n", switch, "-batch", "-"],
                stdin=f"link add {port} type veth peer name {link.peer} address {link.mac} netns {self.namespace}\n"
                f"link set {port} master {link.bridge} up\n",
            )
        settings = {
            "net.ipv4.conf.all.rp_filter": "0",
            "net.ipv4.conf.default.rp_filter": "0",
            "net.ipv6.conf.all.accept_dad": "0",
            "net.ipv6.conf.default.accept_dad": "0",
            **self.sysctls,
        }
        self.sysctl(settings)
        lines = ["link set lo up"]
        for link in self.links:
            if link.bridged:
                lines.append(f"link add {link.name} address {link.mac} type bridge mcast_snooping 0")
                lines += [f"link set {link.peer} master {link.name}", f"link set {link.peer} up"]
            lines += [f"address add {address} dev {link.name}" + nodad(address) for address in link.addresses]
            lines.append(f"link set {link.name} up")
        self.ip(*lines, *self.extra)

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Write kernel settings of this node."""
        script = "".join(f"echo {value} >/proc/sys/{key.replace('.', '/')}\n" for key, value in settings.items())
        self.run("sh", "-e", stdin=script)

    def port(self, link: Link) -> str:
        """Return the name of the switch's end of a link."""
        return f"{self.name}-{link.name}"

    def power_off(self) -> None:
        """Cut the power: links dead at once, processes gone, nothing of the kernel's state left."""
        ports = [self.port(link) for link in self.links]
        switch = self.lab.switch
        run(["ip", "-n", switch, "-batch", "-"], stdin="".join(f"link set {port} down\n" for port in ports))
        self.kill_everything()
        run(["ip", "-n", switch, "-batch", "-"], stdin="".join(f"link del {port}\n" for port in ports))
        run(["ip", "netns", "delete", self.namespace])

    def kill_everything(self) -> None:
        """Send SIGKILL to every process here and wait until none is left."""

        def nobody_left() -> bool:
            pids = [pid for pid in self.pids() if alive(pid)]
            signal_all(pids, signal.SIGKILL)
            return not pids

        wait_until(nobody_left, f"{self.name}: its processes are gone", limit_s=END_LIMIT_S)

    def plug_back(self) -> None:
        """Plug every cable into the bridge where it belongs."""
        lines = [f"link set {self.port(link)} master {link.bridge}" for link in self.links]
        run(["ip", "-n", self.lab.switch, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def plug(self, link_name: str, *, plugged: bool) -> None:
        """Plug or pull the cable of one link; the node loses its carrier, too."""
        link = next(link for link in self.links if link.name == link_name)
        run(["ip", "-n", self.lab.switch, "link", "set", self.port(link), "up" if plugged else "down"])


def nodad(address: str) -> str:
    """Return the flag that makes an IPv6 address usable at once."""
    return " nodad" if ":" in address else ""


class Lab:
    """A switch and nodes. A context manager: what it made is gone afterwards, also after a failure."""

    def __init__(self, bridges: Sequence[str]) -> None:
        self.prefix = f"{PREFIX}{os.getpid()}x{next(NUMBERS)}"
        self.scratch = SCRATCH_PARENT / self.prefix
        self.bridges = tuple(bridges)
        self.nodes: dict[str, Node] = {}
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def switch(self) -> str:
        """Name of the namespace with the bridges."""
        return f"{self.prefix}-{SWITCH}"

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces: run it as root")
        remove_leftovers()
        self.scratch.mkdir(mode=0o755)
        try:
            run(["ip", "netns", "add", self.switch])
            lines = [f"link add {bridge} type bridge mcast_snooping 0" for bridge in self.bridges]
            lines += [f"link set {bridge} up" for bridge in self.bridges]
            run(["ip", "-n", self.switch, "-batch", "-"], stdin="\n".join(lines) + "\n")
        except BaseException:
            remove(self.prefix)
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        remove(self.prefix)
        for process in self.processes:
            process.wait(timeout=END_LIMIT_S)

    def add(self, node: Node) -> Node:
        """Register and boot a node."""
        self.nodes[node.name] = node
        node.boot()
        return node


def namespaces() -> list[str]:
    """Return the names of all network namespaces that labs made."""
    listed = run(["ip", "netns", "list"], check=False)
    return [word for word in (line.split()[0] for line in listed.splitlines() if line.strip()) if OURS.match(word)]


def remove(prefix: str) -> None:
    """Kill and remove everything whose name begins with `prefix`."""
    ours = [name for name in namespaces() if name.rpartition("-")[0] == prefix]

    def nobody_left() -> bool:
        pids = [int(pid) for name in ours for pid in run(["ip", "netns", "pids", name], check=False).split()]
        pids = [pid for pid in pids if pid != os.getpid() and alive(pid)]
        signal_all(pids, signal.SIGCONT)
        signal_all(pids, signal.SIGKILL)
        return not pids

    wait_until(nobody_left, f"processes of {prefix} are gone", limit_s=END_LIMIT_S)
    for name in ours:
        run(["ip", "netns", "delete", name], check=False)
    shutil.rmtree(SCRATCH_PARENT / prefix, ignore_errors=True)


def remove_leftovers() -> None:
    """Remove what labs whose process no longer runs left behind."""
    found = {name.rpartition("-")[0] for name in namespaces()}
    found |= {path.name for path in SCRATCH_PARENT.glob(f"{PREFIX}*")}
    for prefix in found:
        whose = OURS.match(prefix)
        if whose and not alive(int(whose[1])):
            remove(prefix)
