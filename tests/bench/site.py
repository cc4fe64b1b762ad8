"""Two namespaces on one cable: in one a web server with a thousand addresses, in the other those who check them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PREFIX = "10.77"
PAGE = "hello from the bench\n"
NGINX = """
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
daemon off;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    server {{
        listen 80 backlog=8192;
        location / {{ return 200 "{page}"; }}
        location = /bench-status {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Site:
    """Where the servers are and where the checkers run."""

    client: str
    server: str
    directory: Path
    addresses: tuple[str, ...]

    def start(self, *words: str, namespace: str = "", **environment: str) -> subprocess.Popen[bytes]:
        """Start a program in a namespace (the checkers' by default), its output in a file."""
        with (self.directory / f"{Path(words[0]).name}.out").open("ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", namespace or self.client, *words],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
            )  # fmt: skip

    def served(self) -> dict[str, int]:
        """Return how many HTTP requests, connections and echo requests have reached the servers."""
        text = _run("ip", "netns", "exec", self.client, "python3", "-c", STATUS_PROGRAM)
        _, _, requests = text.split("requests\n")[1].split("\n")[0].split()
        return {
            "http": int(requests),
            "tcp": self._counter("Tcp", "PassiveOpens"),
            "ping": self._counter("Icmp", "InEchos"),
        }

    def _counter(self, protocol: str, name: str) -> int:
        text = _run("ip", "netns", "exec", self.server, "cat", "/proc/net/snmp")
        names, values = (line.split() for line in text.splitlines() if line.startswith(f"{protocol}: "))
        return int(values[names.index(name)])


STATUS_PROGRAM = f"import urllib.request as u; print(u.urlopen('http://{PREFIX}.0.1/bench-status').read().decode())"


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def bench_site(count: int) -> Iterator[Site]:
    """Make the site with `count` addresses, and take it away again."""
    client, server = f"hwbc{os.getpid()}", f"hwbs{os.getpid()}"
    addresses = tuple(f"{PREFIX}.{1 + i // 250}.{1 + i % 250}" for i in range(count))
    with tempfile.TemporaryDirectory(prefix="hawatch-bench-") as directory:
        site = Site(client, server, Path(directory), addresses)
        nginx = None
        try:
            for name in (client, server):
                _run("ip", "netns", "add", name)
                _run("ip", "-n", name, "link", "set", "lo", "up")
                _run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000")
            _run("ip", "link", "add", "eth0", "netns", client, "type", "veth", "peer", "name", "eth0", "netns", server)
            for name, address in ((client, "192.0.2.1/24"), (server, "192.0.2.2/24")):
                _run("ip", "-n", name, "address", "add", address, "dev", "eth0")
                _run("ip", "-n", name, "link", "set", "eth0", "up")
            _run("ip", "-n", server, "route", "add", "local", f"{PREFIX}.0.0/16", "dev", "lo")
            _run("ip", "-n", client, "route", "add", f"{PREFIX}.0.0/16", "via", "192.0.2.2")
            # Every checked address is one of thousands behind one machine: the limit on ICMP replies is per machine.
            _run("ip", "netns", "exec", server, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0")
            config = site.directory / "nginx.conf"
            config.write_text(NGINX.format(directory=directory, page=PAGE.strip()))
            nginx = site.start("nginx", "-c", str(config), namespace=server)
            _wait_until_it_answers(site)
            yield site
        finally:
            if nginx is not None:
                nginx.terminate()
                nginx.wait(10)
            for name in (client, server):
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _wait_until_it_answers(site: Site) -> None:
    for _ in range(100):
        try:
            site.served()
        except subprocess.CalledProcessError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nginx does not answer: {(site.directory / 'nginx.out').read_text()}")
