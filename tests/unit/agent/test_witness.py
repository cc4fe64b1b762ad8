"""A witness as a process, in a network namespace of its own: what it starts under, and what it is told then."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from hawatch.agent.places import Places
from hawatch.agent.witness import Witness, read_part
from hawatch.cluster import keys
from hawatch.cluster.wire import Codec, Datagram, Ping, Pong, encode_messages, identifier
from tests.bench.cost import pss_mb
from tests.lab.netns import call_in_namespace
from tests.lab.pair.shell import run, wait_until

pytestmark = [pytest.mark.netns, pytest.mark.slow]
CONFIG = """
[cluster]
name = "hawatch"
key_file = "{keys}"
[[director]]
name = "a"
links = ["10.80.0.1"]
[[director]]
name = "b"
links = ["10.80.0.2"]
[[witness]]
name = "w"
links = ["10.80.0.3"]
[alert.email.ops]
to = ["ops@example.org"]
from = "hawatch@example.org"
server = "mail.example.org:587"
username = "hawatch"
password_file = "/nonexistent/on/a/witness"
"""
GROUP = """
[[group]]
name = "mail"
addresses = [{ address = "192.0.2.110/32", interface = "eth0" }]
"""
COMMAND = (sys.executable, "-m", "hawatch.cli.main")
PATIENCE_S = 20.0
PSS_MB_MAX = 25


class Lab:
    """A machine without any network, a configuration, and key files."""

    def __init__(self, directory: Path, namespace: str) -> None:
        self.directory = directory
        self.namespace = namespace
        self.keys = directory / "keys"
        self.keygen()
        self.config = directory / "hawatch.toml"
        self.config.write_text(CONFIG.format(keys=self.keys))
        self.log = directory / "log"

    def keygen(self, *words: str) -> str:
        return run([*COMMAND, "keygen", str(self.keys), *words])

    def ring(self) -> keys.KeyRing:
        return keys.parse(self.keys.read_text())

    def command(self, name: str = "one") -> list[str]:
        places = ["--runtime-dir", str(self.directory / name / "run"), "--state-dir", str(self.directory / name)]
        words = [*COMMAND, "witness", "-c", str(self.config), "--node", "w", *places]
        return ["ip", "netns", "exec", self.namespace, *words]

    def fails(self, name: str = "one") -> tuple[int, str]:
        done = subprocess.run(self.command(name), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return done.returncode, done.stderr

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("wb") as log, subprocess.Popen(self.command(), stdout=log, stderr=log) as process:
            try:
                wait_until(lambda: self.said("w answers"), "the witness is there", limit_s=PATIENCE_S)
                yield process
            finally:
                process.terminate()
                assert process.wait(PATIENCE_S) == 0, self.log.read_text()

    def said(self, words: str) -> bool:
        return words in self.log.read_text()

    def ip(self, *lines: str) -> None:
        run(["ip", "-n", self.namespace, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def network(self) -> None:
        self.ip("link set lo up", *(f"address add 10.80.0.{number}/32 dev lo" for number in (1, 2, 3)))

    def answers(self, ring: keys.KeyRing) -> bool:
        """Tell whether a director that has these keys is answered."""
        codec = Codec("hawatch", [identifier("w")], ring)

        def ask() -> bool:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.bind(("10.80.0.1", 694))
                end.settimeout(1.0)
                boot = time.time_ns()
                body = encode_messages([Ping(77)])[0]
                end.sendto(codec.encode(identifier("a"), boot, 1, body), ("10.80.0.3", 694))
                try:
                    datagram = codec.decode(end.recv(1500))
                except (TimeoutError, ConnectionRefusedError):
                    return False
                assert isinstance(datagram, Datagram)
                return any(isinstance(each, Pong) and each.nonce == 77 for each in datagram.messages)

        return call_in_namespace(self.namespace, ask)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    namespace = f"hwwit{os.getpid()}"
    run(["ip", "netns", "add", namespace])
    try:
        yield Lab(tmp_path, namespace)
    finally:
        run(["ip", "netns", "delete", namespace])


def test_it_starts_without_a_network_and_answers_when_there_is_one(lab: Lab) -> None:
    with lab.running():
        lab.network()
        wait_until(lambda: lab.answers(lab.ring()), "it answers", limit_s=PATIENCE_S)


def test_it_is_small(lab: Lab) -> None:
    """What understands the configuration is not in it."""
    lab.network()
    with lab.running() as process:
        assert lab.answers(lab.ring())
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "_socket" in maps or "libssl" in maps, "not the process that was meant"
        assert "pydantic" not in maps
        assert pss_mb([process.pid]) < PSS_MB_MAX


def test_without_good_keys_it_does_not_start_and_says_why(lab: Lab) -> None:
    lab.keys.chmod(0o644)
    status, said = lab.fails()
    assert status == 2
    assert f"others may read or write {lab.keys}; found mode 0644; accepted: a regular file of mode 0600" in said
    lab.keys.unlink()
    status, said = lab.fails()
    assert status == 2
    assert f"{lab.keys}: No such file or directory; `hawatch keygen` makes one" in said
    lab.keys.touch(mode=0o600)
    status, said = lab.fails()
    assert status == 2
    assert f"{lab.keys}: no key in it; `hawatch keygen` makes one" in said
    assert "Traceback" not in said
    assert not (lab.directory / "one").exists()


def test_a_second_witness_of_that_name_is_refused_where_it_can_be_seen(lab: Lab) -> None:
    with lab.running():
        status, said = lab.fails("two")
        assert status == 1
        assert "cannot listen on link 10.80.0.3 UDP port 694: Address already in use" in said
        assert "Traceback" not in said


async def test_a_group_that_a_reload_brings_is_voted_on(lab: Lab) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.80.0.3", 0))
        port = end.getsockname()[1]
    text = CONFIG.format(keys=lab.keys).replace("10.80.0.", "127.80.0.")
    lab.config.write_text(text.replace("[cluster]", f"[cluster]\nport = {port}"))
    (lab.directory / "one").mkdir()
    places = Places(lab.config, lab.directory / "one", lab.directory / "one")
    witness = Witness(places, read_part(places, "w"))
    memory = witness._node.site.acceptor.memory
    assert memory == {}
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(witness.run)
            while witness._loop is None:
                await trio.sleep(0.01)
            lab.config.write_text(lab.config.read_text() + GROUP)
            os.kill(os.getpid(), signal.SIGHUP)
            while identifier("mail") not in memory:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


def children(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()


def test_a_reload_that_hangs_does_not_hold_up_the_stop(lab: Lab) -> None:
    lab.network()
    with lab.running() as process:
        lab.config.unlink()
        os.mkfifo(lab.config)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: children(process), "it reads", limit_s=PATIENCE_S)
        assert lab.answers(lab.ring())
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_a_reload_for_which_there_is_no_room_changes_nothing(lab: Lab) -> None:
    lab.network()
    with lab.running() as process:
        before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        process.send_signal(signal.SIGHUP)
        words = "the keys stay as they were: no process to read the configuration in: Too many open files"
        wait_until(lambda: lab.said(words), words, limit_s=PATIENCE_S)
        assert lab.answers(lab.ring())
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: lab.said("keys read again"), "it reads", limit_s=PATIENCE_S)


def test_keys_are_changed_while_it_runs(lab: Lab) -> None:
    lab.network()
    old = lab.ring()
    with lab.running() as process:

        def reloaded(words: str) -> None:
            before = lab.log.read_text().count(words)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: lab.log.read_text().count(words) > before, words, limit_s=PATIENCE_S)

        assert lab.answers(old)
        lab.keygen("--add")
        reloaded("keys read again")
        new = keys.activated(lab.ring(), 2)
        assert lab.answers(old)
        assert lab.answers(new)
        lab.keygen("--activate", "2")
        reloaded("keys read again")
        lab.keygen("--remove", "1")
        reloaded("keys read again")
        assert lab.answers(lab.ring())
        assert not lab.answers(old)
        lab.keys.chmod(0o640)
        reloaded("the keys stay as they were")
        assert lab.said("others may read or write")
        assert lab.answers(lab.ring())
        lab.keys.chmod(0o600)
        lab.config.write_text(lab.config.read_text() + GROUP)
        reloaded("votes on these groups from now on: mail")
        assert not lab.said("a restart makes it count")
        lab.config.write_text(lab.config.read_text().replace("10.80.0.2", "10.80.0.9"))
        reloaded("the configuration has changed: a restart makes it count")
        lab.config.write_text("nonsense")
        reloaded("the keys stay as they were")
        assert lab.answers(lab.ring())
        assert not children(process), "a child was left"
