"""`hawatch top` on a terminal of its own, before an agent that answers with a status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

import pytest

from tests.unit.console.page.sample import server, service, status

PATIENCE_S = 20.0


class Core:
    """Answers every request with a status."""

    def __init__(self, directory):
        self.told = status()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / "ctl.sock"))
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(json.dumps({"kind": "done", "data": self.told}).encode() + b"\n")

    def stop(self):
        with contextlib.suppress(OSError):  # stopped already
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def core(tmp_path):
    made = Core(tmp_path)
    yield made
    made.stop()


def command(directory, *words):
    return [sys.executable, "-m", "hawatch.cli.main", "top", "--runtime-dir", str(directory), *words]


def test_once(core, tmp_path):
    core.told = status(services=[service(server(), server("192.0.2.2", "down", reason="no greeting in 1 s"))])
    done = subprocess.run(command(tmp_path, "--once"), capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert "group web  owner  owner lvs1  lvs1 renewed its lease" in done.stdout
    assert "no greeting in 1 s" in done.stdout
    assert "\x1b" not in done.stdout
    done = subprocess.run(command(tmp_path, "--once", "--down"), capture_output=True, text=True, timeout=20, check=True)
    assert "192.0.2.1:80" not in done.stdout


def test_no_agent_and_no_terminal(core, tmp_path):
    done = subprocess.run(command(tmp_path / "none"), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, "no agent answers" in done.stderr) == (3, True)
    done = subprocess.run(command(tmp_path), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, "--once prints once" in done.stderr) == (2, True)


class Terminal:
    """A terminal with `hawatch top` on it."""

    def __init__(self, directory, columns, rows, **environment):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            command(directory), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", **environment},
        )  # fmt: skip
        os.close(slave)
        self.written = self.everything = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, words):
        """Wait until the terminal was sent some words after what was waited for before."""
        while words not in (text := re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\([A-Z]", "", self.written)):
            assert select.select([self.master], [], [], PATIENCE_S)[0], text
            new = os.read(self.master, 65536).decode(errors="replace")
            self.written += new
            self.everything += new
        self.written = ""

    def press_and_wait(self, keys, words):
        self.press(keys + b"\x0c")
        self.wait(words)

    def press(self, keys):
        os.write(self.master, keys)


@pytest.fixture
def terminal(core, tmp_path):
    core.told = status(services=[service(*(server(f"192.0.2.{n + 1}") for n in range(40)))])
    made = Terminal(tmp_path, 80, 24)
    yield made
    made.process.kill()
    made.process.wait()
    os.close(made.master)


@pytest.mark.parametrize(
    ("environment", "words", "status"),
    [
        ({"TERM": "unheard-of"}, 'does not know the terminal "unheard-of"; TERM=xterm does for most', 2),
        ({"TERM": ""}, 'does not know the terminal ""', 2),
        ({"LC_ALL": "xx_XX.UTF-8"}, "All is well", 0),
    ],
    ids=["a terminal unknown here", "no terminal's name", "a language unknown here"],
)
def test_what_ssh_brings_along(core, tmp_path, environment, words, status):
    made = Terminal(tmp_path, 80, 24, **environment)
    try:
        made.wait(words)
        if status == 0:
            made.press(b"q")
        assert made.process.wait(PATIENCE_S) == status
    finally:
        made.process.kill()
        made.process.wait()
        os.close(made.master)


@pytest.mark.slow
def test_on_a_terminal(core, terminal, tmp_path):
    terminal.wait("All is well: 40 of 40 servers up")
    terminal.press(b"jjj\x0c")
    terminal.wait("line 4 of 41")
    terminal.press(b"s\x0c")
    terminal.wait("all servers, by state")
    terminal.press(b"d\x0c")
    terminal.wait("only what is not up, by state")
    core.told = status(services=[service(server("192.0.2.7", "down", reason="hung up"))])
    terminal.wait("hung up")
    terminal.resize(60, 12)
    os.killpg(terminal.process.pid, signal.SIGWINCH)
    terminal.wait("hung up")
    terminal.resize(80, 24)
    os.killpg(terminal.process.pid, signal.SIGWINCH)
    core.stop()
    terminal.wait("NO ANSWER")
    (tmp_path / "ctl.sock").unlink()
    again = Core(tmp_path)
    again.told = status(services=[service(server("192.0.2.8", "down", reason="came back"), server())])
    terminal.wait("came back")
    again.stop()
    terminal.press(b"q")
    assert terminal.process.wait(PATIENCE_S) == 0
    assert "\x1b[31m" in terminal.everything, "what is down is red"


@pytest.mark.slow
def test_looking_for_something(terminal):
    terminal.wait("All is well: 40 of 40 servers up")
    terminal.press_and_wait(b"/2.39q", "find: 2.39q_")
    terminal.press_and_wait(b"\x7f", "find: 2.39_")
    terminal.press_and_wait(b"\r", 'all servers with "2.39"')
    terminal.press(b"\x0c")
    terminal.wait("192.0.2.39:80")
    terminal.press_and_wait(b"/\x1b", "all servers, by service")
    terminal.press(b"\x1b")
    assert terminal.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_no_colours(core, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    core.told = status(services=[service(server(state="down", reason="hung up"))])
    terminal = Terminal(tmp_path, 80, 24)
    terminal.wait("hung up")
    terminal.press(b"q")
    assert terminal.process.wait(PATIENCE_S) == 0
    os.close(terminal.master)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.everything)
