"""An agent with a page: two real servers, and one that answers with what a page must not run."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from tests.unit.agent.fake_kernel import FileKernel
from tests.unit.agent.test_core import Agent, Server
from tests.unit.daemons import free_ports

TOKEN = "correct-horse-battery-staple"
READER_TOKEN = "only-looking-around-here"
NASTY = "<script>window.hacked = 1</script><img src=x onerror=alert(1)>"


def many(services: int, servers: int) -> str:
    """Return the configuration of a large site without probes."""
    text = ""
    for number in range(services):
        text += (
            f'[[service]]\nname = "service{number}"\naddress = "10.1.{number}.1"\nport = 80\nforward = "masquerade"\n'
        )
        text += "".join(f'[[service.server]]\naddress = "10.2.{number}.{each + 1}"\n' for each in range(servers))
    return text


class PageSite:
    """The agent, its page's address, and what it can be asked."""

    def __init__(self, directory: Path, *, more: str = "", extra: str = "") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for name, token in (("alice", TOKEN), ("bob", READER_TOKEN)):
            (directory / name).write_text(token + "\n")
            (directory / name).chmod(0o600)
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.servers = [Server("127.0.0.2"), Server("127.0.0.3")]
        agent = Agent.__new__(Agent)
        agent.directory, agent.config, agent.servers = directory, directory / "hawatch.toml", self.servers
        agent.kernel = FileKernel(directory)
        agent.write_config(
            f'[console]\nlisten = "127.0.0.1:{self.port}"\n{extra}\n'
            f'[console.user.alice]\ntoken_file = "{directory}/alice"\n'
            f'[console.user.bob]\ntoken_file = "{directory}/bob"\nmay = "read"\n'
        )
        with agent.config.open("a") as file:
            file.write(more)
        agent.start()
        self.agent = agent

    def stop(self) -> None:
        self.agent.process.kill()
        self.agent.process.wait()
        for server in self.servers:
            server.stop()


class HostileBanner:
    """A mail server on loopback whose greeting is HTML, and a service that probes it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.8", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(f"554 {NASTY}\r\n".encode())
                connection.recv(100)

    def service(self) -> str:
        """Return the configuration."""
        port = self.listener.getsockname()[1]
        return (
            '[[service]]\nname = "hostile"\naddress = "192.0.2.112"\nport = 25\nforward = "masquerade"\n'
            f'probe = {{ type = "smtp", port = {port}, interval = "1s", timeout = "1s", rise = 1, fall = 1 }}\n'
            '[[service.server]]\naddress = "127.0.0.8"\n'
        )

    def stop(self) -> None:
        """Close."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def nasty_service(directory: Path) -> str:
    """Return a service whose only server's probe fails with HTML in its reason."""
    script = directory / "nasty"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"#!/bin/sh\necho '{NASTY}'\nexit 1\n")
    script.chmod(0o755)
    return (
        '[[service]]\nname = "nasty"\naddress = "192.0.2.111"\nport = 80\nforward = "masquerade"\n'
        f'probe = {{ type = "exec", command = ["{script}"], interval = "2s", timeout = "2s", rise = 1, fall = 1 }}\n'
        '[[service.server]]\naddress = "127.0.0.9"\n'
    )
