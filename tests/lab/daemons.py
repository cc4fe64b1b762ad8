"""Real daemons on the real servers: nginx, Postfix, Dovecot and BIND, run as a site would, without the host's own.

Each has its files below its server's directory and logs there (there is no syslog in the lab). `start` returns when the
daemon answers; `stop` leaves a closed port; `hang` freezes all its processes, so that the kernel still accepts
connections and nobody answers.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import daemon_files as files
from tests.lab.namespaces import Node
from tests.lab.shell import LabError, alive, family_of, signal_all, wait_until

START_LIMIT_S = 45.0
"""Twelve daemons starting together on User-Mode Linux's one slow processor."""
STOP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """What one sort of daemon needs: its files, its command line, its port and how it is asked whether it serves."""

    name: str
    service: str
    port: int
    write: Callable[[Path, str], Path]
    argv: Callable[[Path], list[str]]


KINDS = {
    "nginx": Kind(
        "nginx", "http", 80, files.write_nginx, lambda conf: ["nginx", "-e", f"{conf.parent}/error.log", "-c", str(conf)]
    ),
    "postfix": Kind(
        "postfix", "smtp", 25, files.write_postfix, lambda home: ["/usr/lib/postfix/sbin/master", "-d", "-c", str(home)]
    ),
    "dovecot": Kind("dovecot", "pop3", 110, files.write_dovecot, lambda conf: ["dovecot", "-F", "-c", str(conf)]),
    "bind": Kind("bind", "dns", 53, files.write_named, lambda conf: ["named", "-f", "-n", "1", "-c", str(conf)]),
}


class Daemon:
    """One daemon on one server."""

    def __init__(self, node: Node, kind: Kind) -> None:
        self.node = node
        self.kind = kind
        self.home = node.scratch / kind.name
        self.process: subprocess.Popen[bytes] | None = None
        self.frozen: list[int] = []
        self._configuration: Path | None = None

    def begin(self) -> None:
        """Start without waiting for it to serve."""
        if self._configuration is None:
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.mkdir()
            self._configuration = self.kind.write(self.home, self.node.name)
        self.process = self.node.start(self.kind.argv(self._configuration), log=self.home / "output.log")

    def wait_ready(self, limit_s: float = START_LIMIT_S) -> None:
        """Wait until it listens."""
        process = self.process
        if process is None:
            raise LabError(f"{self.kind.name} on {self.node.name} was not started")

        def listens() -> bool:
            if process.poll() is not None:
                raise LabError(f"{self.kind.name} on {self.node.name} ended: {self.last_words()}")
            return self.kind.port in listening_ports(process.pid, udp=self.kind.port == 53)

        try:
            wait_until(listens, f"{self.kind.name} on {self.node.name} listens on port {self.kind.port}", limit_s=limit_s)
        except LabError as error:
            raise LabError(f"{error}\n{self.last_words()}") from error

    def start(self) -> None:
        """Start and wait until it serves."""
        self.begin()
        self.wait_ready()

    def stop(self) -> None:
        """End it, all its processes; its port is closed afterwards."""
        if self.process is None:
            return
        family = family_of(self.process.pid)
        signal_all(family, signal.SIGKILL)
        self.process.wait(timeout=STOP_LIMIT_S)
        wait_until(lambda: not any(map(alive, family)), f"{self.kind.name} is gone", limit_s=STOP_LIMIT_S)
        self.process = None
        self.frozen = []
        (self.home / "queue/pid/master.pid").unlink(missing_ok=True)

    def hang(self) -> None:
        """Freeze it: connections are still accepted by the kernel, and nobody answers."""
        if self.process is None:
            raise LabError(f"{self.kind.name} on {self.node.name} does not run")
        self.frozen = family_of(self.process.pid)
        signal_all(self.frozen, signal.SIGSTOP)

    def resume(self) -> None:
        """End the freeze."""
        signal_all(self.frozen, signal.SIGCONT)
        self.frozen = []

    def last_words(self) -> str:
        """Return the end of its logs."""
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(path.read_text(encoding="utf-8", errors="replace")[-1500:] for path in logs).strip() or "no log"


def listening_ports(pid: int, *, udp: bool) -> set[int]:
    """Return the local ports that are listened on in the network namespace of a process."""
    ports: set[int] = set()
    for name in ("udp", "udp6") if udp else ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if udp or fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


class Server:
    """A real server's daemons."""

    def __init__(self, node: Node, kinds: Iterable[str] = KINDS) -> None:
        self.node = node
        self.daemons = {KINDS[kind].service: Daemon(node, KINDS[kind]) for kind in kinds}

    def __getitem__(self, service: str) -> Daemon:
        return self.daemons[service]

    def fail_health(self, *, failing: bool) -> None:
        """Make nginx answer /health with 503 while it serves everything else, or end that."""
        path = self["http"].home / "www/health"
        if failing:
            path.unlink(missing_ok=True)
        else:
            path.write_text("ok\n", encoding="ascii")

    def lie(self, *, lying: bool) -> None:
        """Let BIND tell a wrong address of www.example.org, or the right one again."""
        dns = self["dns"]
        dns.stop()
        files.write_zone(dns.home, self.node.name, answer=files.LIE_ADDRESS if lying else files.WWW_ADDRESS)
        dns.start()


def start_servers(nodes: Iterable[Node], kinds: Iterable[str] = KINDS) -> dict[str, Server]:
    """Start all daemons of all servers together and return the servers when all of them serve."""
    kinds = tuple(kinds)
    servers = {node.name: Server(node, kinds) for node in nodes}
    daemons = [daemon for server in servers.values() for daemon in server.daemons.values()]
    for daemon in daemons:
        daemon.begin()
    for daemon in daemons:
        daemon.wait_ready()
    return servers


def greeting(address: str, port: int, *, limit_s: float = 5.0) -> str:
    """Return the first line that a server says on a new connection (run it in a node that reaches the server)."""
    with socket.create_connection((address, port), timeout=limit_s) as connection:
        return connection.makefile("r", encoding="utf-8", errors="replace").readline().strip()
