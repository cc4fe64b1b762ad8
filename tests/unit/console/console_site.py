"""An agent with its mail, and what befalls its console."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hawatch.agent.events import read_after
from hawatch.control.client import Client, NoAgentError
from hawatch.control.protocol import Disable, Enable
from tests.unit.agent.fake_kernel import FileKernel
from tests.unit.agent.test_core import Agent, Server
from tests.unit.console.mailer import Mailer


class Taking(Server):
    """A server that takes its connections: it can be probed for long."""

    def start(self) -> None:
        super().start()
        assert self._listener is not None
        self._thread = threading.Thread(target=self._take, args=(self._listener,))
        self._thread.start()

    @staticmethod
    def _take(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    def stop(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            super().stop()
            self._thread.join()


class Site:
    """An agent with its mail."""

    def __init__(self, directory: Path, postfix: Mailer, *keys: str, tls: str = "starttls", servers: int = 2) -> None:
        self.postfix = postfix
        self.servers: list[Server] = [Taking(f"127.0.0.{number + 2}") for number in range(servers)]
        self.flaps = 0
        self.alert = (
            f'[alert.email.ops]\nto = ["ops@mail.example"]\nfrom = "hawatch@mail.example"\ntimeout = "2s"\n'
            f'server = "127.0.0.1:{postfix.plain}"\nca_file = "{postfix.ca_file}"\ntls = "{tls}"\n' + "\n".join(keys)
        )
        agent = Agent.__new__(Agent)
        agent.directory, agent.config, agent.servers = directory, directory / "hawatch.toml", self.servers
        agent.kernel = FileKernel(directory)
        agent.write_config(self.alert)
        agent.start()
        self.agent = agent
        agent.wait_up()
        agent.wait(lambda: self.worker()["state"] == "running" and (directory / "run/console.sock").exists())

    def worker(self) -> dict:
        try:
            return self.agent.worker("console")
        except (OSError, StopIteration):
            return {"state": "", "pid": 0, "restarts": -1}

    def letters(self, what: str = "key") -> list[tuple]:
        with sqlite3.connect(self.agent.directory / "state/console.db", timeout=10) as database:
            rows = database.execute(f"SELECT {what} FROM letter ORDER BY seq").fetchall()
        database.close()
        return rows

    def stop(self) -> None:
        self.agent.process.kill()
        self.agent.process.wait()
        for server in self.servers:
            server.stop()


NOISY = 10
NOISE = (
    '[[service]]\nname = "noise"\naddress = "192.0.2.111"\nport = 80\nforward = "masquerade"\non_all_down = "empty"\n'
    + "".join(f'[[service.server]]\naddress = "192.0.2.{number + 1}"\n' for number in range(NOISY))
)
"""A service without probes, all of whose servers are disabled and enabled at once."""


@contextmanager
def noise(site: Site, per_s: float = 200.0) -> Iterator[None]:
    """Have the core tell of so many events a second, until the block ends."""
    stop = threading.Event()
    if '"noise"' not in site.agent.config.read_text():
        site.agent.config.write_text(site.agent.config.read_text() + NOISE)
        site.agent.ctl("reload")

    def work() -> None:
        with contextlib.suppress(NoAgentError), Client(site.agent.directory / "run/ctl.sock") as client:
            due = time.monotonic()
            while not stop.is_set():
                for kind in (Disable, Enable):
                    list(client.ask(kind(service="noise", server="all")))
                    due = max(due + NOISY / per_s, time.monotonic() - 1.0)
                    stop.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def told_ids(site: Site) -> list[int]:
    """Return the numbers of all events that the core has told of."""
    path = site.agent.directory / "state/events.jsonl"
    return [record.id for part in read_after(path, 0, 10_000) for record in part]


def journal_ids(site: Site) -> list[int]:
    """Return the numbers of the events in the journal, in its order."""
    with contextlib.closing(sqlite3.connect(site.agent.directory / "state/console.db", timeout=10)) as database:
        return [row[0] for row in database.execute("SELECT id FROM event ORDER BY seq")]


def wait_journal(site: Site) -> None:
    """Wait until the journal has every event."""
    site.agent.wait(lambda: set(told_ids(site)) <= set(journal_ids(site)))
