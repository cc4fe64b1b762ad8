"""Namespaces for a comparison: the checkers in one, and for each of the two that are compared servers of its own.

The servers of a side are one nginx behind a thousand addresses, in a namespace of its own, so that what reached them can
be counted there for each side.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = "hello from the bench"
WAIT_S = 10
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
        location / {{ return 200 "{page}\\n"; }}
        location = /bench-status {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Farm:
    """The servers of one side."""

    namespace: str
    client: str
    prefix: str
    directory: Path
    addresses: tuple[str, ...]

    def served(self, kind: str) -> int:
        """Return how many HTTP requests, connections or echo requests have reached the servers."""
        if kind == "http":
            program = (
                f"import urllib.request as u; print(u.urlopen('http://{self.prefix}.0.1/bench-status').read().decode())"
            )
            text = _run("ip", "netns", "exec", self.client, "python3", "-c", program)
            return int(text.split("requests\n")[1].split("\n")[0].split()[2])
        protocol, name = {"tcp": ("Tcp", "PassiveOpens"), "ping": ("Icmp", "InEchos")}[kind]
        text = _run("ip", "netns", "exec", self.namespace, "cat", "/proc/net/snmp")
        names, values = (line.split() for line in text.splitlines() if line.startswith(f"{protocol}: "))
        return int(values[names.index(name)])


@dataclass(frozen=True)
class Site:
    """Where the checkers run, and the servers of each."""

    client: str
    directory: Path
    ours: Farm
    theirs: Farm

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a checker, its output in a file named after it."""
        return start_in(self.client, self.directory / f"{Path(words[0]).name}.out", *words, **environment)


def start_in(namespace: str, output: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a program in a namespace."""
    with output.open("ab") as file:
        return subprocess.Popen(
            ["ip", "netns", "exec", namespace, *words],
            stdout=file, stderr=file, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
        )  # fmt: skip


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def bench_site(count: int) -> Iterator[Site]:
    """Make the site with `count` addresses a side, and take it away again."""
    client = f"hwbc{os.getpid()}"
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="hawatch-bench-") as name:
        directory = Path(name)
        _make_namespace(stack, client)
        farms = [_open_farm(stack, client, number, count, directory) for number in (1, 2)]
        for farm in farms:
            _wait_until_it_answers(farm)
        yield Site(client, directory, *farms)


def _make_namespace(stack: contextlib.ExitStack, name: str) -> None:
    _run("ip", "netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False, capture_output=True)
    _run("ip", "-n", name, "link", "set", "lo", "up")
    _run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000")


def _open_farm(stack: contextlib.ExitStack, client: str, number: int, count: int, directory: Path) -> Farm:
    """Make the servers of one side, on a cable of their own."""
    prefix = f"10.{76 + number}"
    addresses = tuple(f"{prefix}.{1 + i // 250}.{1 + i % 250}" for i in range(count))
    own = directory / f"farm{number}"
    own.mkdir()
    farm = Farm(f"hwbs{number}-{os.getpid()}", client, prefix, own, addresses)
    server = farm.namespace
    _make_namespace(stack, server)
    ends = ((client, f"eth{number}", f"192.0.2.{8 * number + 1}/29"), (server, "eth0", f"192.0.2.{8 * number + 2}/29"))
    _run("ip", "link", "add", ends[0][1], "netns", client, "type", "veth", "peer", "name", "eth0", "netns", server)
    for name, device, address in ends:
        _run("ip", "-n", name, "address", "add", address, "dev", device)
        _run("ip", "-n", name, "link", "set", device, "up")
    _run("ip", "-n", server, "route", "add", "local", f"{prefix}.0.0/16", "dev", "lo")
    _run("ip", "-n", client, "route", "add", f"{prefix}.0.0/16", "via", f"192.0.2.{8 * number + 2}")
    # Every checked address is one of thousands behind one machine: the limit on ICMP replies is per machine.
    _run("ip", "netns", "exec", server, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0")
    config = own / "nginx.conf"
    config.write_text(NGINX.format(directory=own, page=PAGE))
    nginx = start_in(server, own / "nginx.out", "nginx", "-c", str(config))
    stack.callback(nginx.wait, WAIT_S)
    stack.callback(nginx.terminate)
    return farm


def _wait_until_it_answers(farm: Farm) -> None:
    for _ in range(100):
        try:
            farm.served("http")
        except subprocess.CalledProcessError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nginx does not answer: {(farm.directory / 'nginx.out').read_text()}")
