"""A Linux Virtual Server site in network namespaces: director, real servers and clients on one bridge.

    director 192.168.1.5    VIP 192.168.1.110    real servers .1 .2 .3    clients .10 .11

With direct routing the real servers have the VIP on ``lo`` and keep quiet about it in ARP; in the masquerade variant
they have the director as their gateway and know nothing of the VIP. Everything is made with a prefix of its own and is
gone at the end, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

VIP = "192.168.1.110"
DIRECTOR = "192.168.1.5"
SERVERS = ("192.168.1.1", "192.168.1.2", "192.168.1.3")
CLIENTS = ("192.168.1.10", "192.168.1.11")
NETWORK = "192.168.1.0/24"
COMMAND_LIMIT_S = 30
PREFIX = "hwlab"


def run(*words: str, check: bool = True) -> str:
    """Run a program to its end and return what it printed; raise RuntimeError with its complaint if it fails."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(words)}: status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass
class Host:
    """One host of the site: a network namespace."""

    name: str
    address: str
    namespace: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def words(self, *words: str) -> list[str]:
        """Return a command line that runs in this host's namespace."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program here to its end and return what it printed."""
        return run(*self.words(*words), check=check)

    def start(self, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program here, in a process group of its own, its output in a file."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.words(*words), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.processes.append(process)
        return process

    def stop_all(self) -> None:
        """End everything that runs here, whatever became of its parents."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for pid in run("ip", "netns", "pids", self.namespace, check=False).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for process in self.processes:
            process.wait(COMMAND_LIMIT_S)


@dataclass
class Site:
    """The hosts of a site, and a folder for its files."""

    director: Host
    servers: list[Host]
    clients: list[Host]
    folder: Path

    @property
    def hosts(self) -> list[Host]:
        """Every host."""
        return [self.director, *self.servers, *self.clients]

    def add_vip(self) -> None:
        """Bring the VIP up on the director by hand, where no agent does."""
        run("ip", "-n", self.director.namespace, "address", "add", f"{VIP}/32", "dev", "eth0")


@contextlib.contextmanager
def open_site(*, masquerade: bool = False) -> Iterator[Site]:
    """Make a site, and remove it at the end of the block."""
    prefix = f"{PREFIX}{os.getpid()}"
    hub = f"{prefix}-hub"
    folder = Path(tempfile.mkdtemp(prefix="hawatch-lab-", dir="/run"))
    folder.chmod(0o755)
    hosts = [
        Host(name, address, f"{prefix}-{name}")
        for name, address in (
            ("director", DIRECTOR),
            *((f"server{number}", address) for number, address in enumerate(SERVERS, 1)),
            *((f"client{number}", address) for number, address in enumerate(CLIENTS, 1)),
        )
    ]
    site = Site(hosts[0], hosts[1:4], hosts[4:], folder)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        _make_hub(hub)
        for number, host in enumerate(hosts):
            _make_host(host, hub, f"p{number}")
        _set_up(site, masquerade=masquerade)
        yield site
    finally:
        for host in hosts:
            host.stop_all()
        for namespace in [*(host.namespace for host in hosts), hub]:
            run("ip", "netns", "delete", namespace, check=False)
        shutil.rmtree(folder, ignore_errors=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: types.FrameType | None) -> None:
    raise SystemExit(128 + number)


def _make_hub(hub: str) -> None:
    run("ip", "netns", "add", hub)
    run("ip", "-n", hub, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    run("ip", "-n", hub, "link", "set", "br0", "up")


def _make_host(host: Host, hub: str, port: str) -> None:
    run("ip", "netns", "add", host.namespace)
    run("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    run("ip", "-n", hub, "link", "set", port, "master", "br0", "up")
    run("ip", "-n", host.namespace, "link", "set", "lo", "up")
    run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    run("ip", "-n", host.namespace, "link", "set", "eth0", "up")


def answer_through_director(host: Host) -> None:
    """Have a real server send what it says under its own address through the director, as masquerading wants it.

    Its answers under the VIP, those of direct routing, still go the short way.
    """
    for words in (f"route add {DIRECTOR} dev eth0 table 100", f"route add default via {DIRECTOR} table 100",
                  f"rule add from {host.address} lookup 100"):  # fmt: skip
        run("ip", "-n", host.namespace, *words.split())


def _set_up(site: Site, *, masquerade: bool) -> None:
    """Make hosts ready for direct routing or masquerading; bringing up the VIP on the director is the agent's."""
    site.director.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                      "net.ipv4.conf.eth0.send_redirects=0", "net.ipv4.vs.conntrack=0",
                      "net.ipv4.vs.conn_reuse_mode=3", check=False)  # fmt: skip
    for server in site.servers:
        if masquerade:
            # Answers must pass the director, though the clients are on the same link.
            run("ip", "-n", server.namespace, "route", "delete", NETWORK)
            run("ip", "-n", server.namespace, "route", "add", f"{DIRECTOR}/32", "dev", "eth0")
            run("ip", "-n", server.namespace, "route", "add", "default", "via", DIRECTOR)
        else:
            server.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
            run("ip", "-n", server.namespace, "address", "add", f"{VIP}/32", "dev", "lo")
