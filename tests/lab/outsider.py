"""Agents as an outsider runs them: by the command line, in the namespaces of a site, knowing no more than is promised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import family_of, signal_all

HAWATCH = str(Path(sys.executable).with_name("hawatch"))
PATIENCE_S = 60.0
KEYS = "active = 1\n1 = " + "2a" * 32 + "\n"
WEB_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/health" and self.headers["Host"] == "www.example.org"
        body = b"ok" if known else b"no such page"
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def command(*words: str | Path, node: Node | None = None, limit_s: float = PATIENCE_S) -> Said:
    """Run `hawatch`, on a node of the site or here, to its end."""
    argv = [HAWATCH, *map(str, words)]
    done = subprocess.run(
        node.argv(argv) if node else argv, capture_output=True, text=True, timeout=limit_s, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def until(truth: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + limit_s
    while not (found := truth()):
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Agent:
    """One agent (or witness) with directories of its own."""

    node: Node
    config: str
    what: str = "run"
    folder: str = "agent"
    """Its own on the node."""
    home: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home = self.node.scratch / self.folder
        self.home.mkdir(exist_ok=True)
        self.write(self.config)

    @property
    def file(self) -> Path:
        return self.home / "hawatch.toml"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def write(self, text: str) -> None:
        """Write the configuration; what it names is put beside it."""
        for name, content in (("cluster.key", KEYS), ("password", "secret\n")):
            path = self.home / name
            path.write_text(content)
            path.chmod(0o600)
        self.file.write_text(text.replace("HOME", str(self.home)))

    def start(self) -> None:
        """Start it and wait until it answers (a witness: until it says so)."""
        words = [HAWATCH, self.what, "--config", self.file, "--node", self.node.name]
        words += ["--runtime-dir", self.home / "run", "--state-dir", self.home / "state"]
        self.log.write_text("")
        self.process = self.node.start([str(word) for word in words], log=self.log)
        if self.what == "run":
            until(lambda: self.ctl("status").status == 0, f"{self.node.name} answers: {self.log.read_text()[-500:]}")
        else:
            until(lambda: self.log.read_text(), f"{self.node.name} says something")

    def stop(self) -> int:
        """Stop it in good order; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill all of its processes."""
        assert self.process is not None
        signal_all(family_of(self.process.pid), signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def ctl(self, *words: str, limit_s: float = PATIENCE_S) -> Said:
        """Run `hawatch ctl`."""
        return command("ctl", "--runtime-dir", self.home / "run", *words, node=self.node, limit_s=limit_s)

    def status(self) -> dict[str, Any]:
        """Return `status --json`."""
        said = self.ctl("status", "--json")
        assert said.status == 0, said
        found: dict[str, Any] = said.json
        return found

    def group(self, name: str = "web") -> dict[str, Any]:
        """Return a group of the status."""
        return next(group for group in self.status()["groups"] if group["name"] == name)

    def server(self, address: str) -> dict[str, Any]:
        """Return a server of the status."""
        servers = [server for service in self.status()["services"] for server in service["servers"]]
        return next(server for server in servers if server["address"] == address)

    def events(self) -> list[dict[str, Any]]:
        """Return all events, newest last."""
        said = self.ctl("events", "--json", "-n", "1000")
        assert said.status == 0, said
        return [json.loads(line) for line in said.out.splitlines()]

    def has(self, address: str) -> bool:
        """Tell whether this machine has an address."""
        return f" {address}/" in self.node.run("ip", "-o", "address", "show")


def as_user(user: int, groups: list[int], *words: str | Path) -> Said:
    """Run `hawatch` in a copy of this process as another user: he need not be able to read Python's files."""
    from hawatch.cli import ctl, main  # noqa: F401 - imported before the privileges are gone

    out, err = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.dup2(out[1], 1)
            os.dup2(err[1], 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            os.setgroups(groups)
            os.setgid(user)
            os.setuid(user)
            status = main.main([str(word) for word in words])
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(out[1])
    os.close(err[1])
    with open(out[0]) as output, open(err[0]) as errors:
        told = output.read(), errors.read()
    return Said(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *told)
