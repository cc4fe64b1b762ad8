"""The whole agent as processes, with real probes of real ports and an IPVS table in files."""

from __future__ import annotations

import grp
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hawatch.agent.core import REMEMBER_S
from hawatch.agent.events import Record, read_back
from hawatch.agent.head_start import take_head_start
from hawatch.agent.places import Places
from tests.unit.agent.fake_kernel import FileKernel

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0
CTL = (sys.executable, "-m", "hawatch.cli.main", "ctl", "--runtime-dir")
VIP = "192.0.2.110"


class Server:
    """A real server: a port that accepts connections, or refuses them."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.address = address
        self.port = port
        self._listener: socket.socket | None = None
        self.start()

    def start(self) -> None:
        self._listener = socket.create_server((self.address, self.port), backlog=1000)
        self.port = self._listener.getsockname()[1]

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @property
    def name(self) -> str:
        return f"{self.address}:{self.port}"


class Agent:
    """An agent of its own, and what it can be asked."""

    def __init__(self, directory: Path, servers: list[Server]) -> None:
        self.directory = directory
        self.config = directory / "hawatch.toml"
        self.kernel = FileKernel(directory)
        self.servers = servers
        self.write_config()
        self.start()

    def write_config(self, extra: str = "") -> None:
        entries = "".join(f'[[service.server]]\naddress = "{one.address}"\nport = {one.port}\n' for one in self.servers)
        self.config.write_text(
            f'[[director]]\nname = "lvs1"\n{extra}\n[[service]]\nname = "web"\naddress = "{VIP}"\nport = 80\n'
            'probe = { type = "tcp", interval = "100ms", timeout = "100ms", rise = 1, fall = 2 }\n'
            f'on_all_down = "empty"\nforward = "masquerade"\n{entries}'
        )

    def start(self) -> None:
        # Nobody reads its output but the file: a pipe that is not read would be another test.
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.unit.agent.agent_site", self.config, "lvs1", self.directory],
                cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0

    def ctl(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [*CTL, self.directory / "run", *words],
            capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == status, done
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """Ask over the socket, without a process for it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(self.directory / "run" / "ctl.sock"))
            connection.sendall(b'{"command": "status"}\n')
            text = b""
            while not text.endswith(b"\n"):
                data = connection.recv(1 << 16)
                if not data:
                    raise ConnectionResetError("the core died while it answered")
                text += data
            answer = json.loads(text)
            if "data" not in answer:
                raise ConnectionRefusedError(answer)
            found: dict[str, Any] = answer["data"]
            return found

    def pid(self, name: str) -> int:
        """Return the process id of a worker as soon as it runs: 0 would be our own process group."""
        deadline = time.monotonic() + PATIENCE_S
        while not (pid := self.worker(name)["pid"]):
            assert time.monotonic() < deadline, f"{name} does not run"
            time.sleep(0.01)
        assert isinstance(pid, int)
        return pid

    def worker(self, name: str) -> dict[str, Any]:
        return next(worker for worker in self.status()["workers"] if worker["name"] == name)

    def states(self) -> dict[str, str]:
        try:
            rows = self.status()["services"][0]["servers"]
        except (OSError, KeyError):  # not there, or too many are
            return {}
        return {f"{row['address']}:{row['port']}": row["state"] for row in rows}

    def table(self) -> dict[str, int]:
        """Return the weights in the kernel's table by server."""
        return {
            str(key): destination.weight
            for entry in self.kernel.read().values()
            for key, destination in entry.destinations.items()
        }

    def events(self) -> list[Record]:
        return read_back(self.directory / "state" / "events.jsonl")

    def event_names(self) -> list[str]:
        return [record.name for record in self.events()]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.02)):
            if condition():
                return
            pause.wait(0.02)
        output = (self.directory / "output").read_text()
        raise AssertionError(
            f"never came true; states {self.states()}, table {self.table()}, events {self.event_names()}, "
            f"output {output[-3000:]}"
        )

    def wait_up(self) -> None:
        """Wait until every server is up and in the table."""
        self.wait(lambda: self.table() == {one.name: 1 for one in self.servers})
        self.wait(lambda: set(self.states().values()) == {"up"})


def ended(pid: int) -> None:
    """Wait until a process that is no child of ours has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # and its parent has taken note
    assert select.select([descriptor], [], [], PATIENCE_S)[0]
    os.close(descriptor)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    found = [Server("127.0.0.2"), Server("127.0.0.3")]
    yield found
    for server in found:
        server.stop()


@pytest.fixture
def agent(tmp_path: Path, servers: list[Server]) -> Iterator[Agent]:
    found = Agent(tmp_path, servers)
    try:
        found.wait_up()
        yield found
    finally:
        found.process.kill()
        found.process.wait()


pytestmark = pytest.mark.slow


def test_a_server_that_stops_is_out_and_back_when_it_answers(agent: Agent) -> None:
    first, second = agent.servers
    first.stop()
    agent.wait(lambda: agent.table() == {second.name: 1})
    row = agent.status()["services"][0]["servers"][0]
    assert (row["state"], row["weight"], row["reason"]) == ("down", 0, "connection refused")
    first.start()
    agent.wait_up()
    assert agent.event_names().count("server_down") == 1


def test_a_restart_changes_nothing_in_the_kernel(agent: Agent) -> None:
    before = agent.kernel.changes()
    agent.stop()
    assert agent.table() == {one.name: 1 for one in agent.servers}
    agent.start()
    agent.wait(lambda: set(agent.states().values()) == {"up"})
    assert agent.kernel.changes() == before
    names = agent.event_names()
    assert names[-2:] == ["agent_stopped", "agent_started"]
    assert names.count("server_up") == len(agent.servers)


def test_killing_the_core_ten_times_costs_nothing_but_its_own_events(agent: Agent) -> None:
    agent.servers[0].stop()
    agent.wait(lambda: agent.states()[agent.servers[0].name] == "down")
    agent.wait(lambda: agent.event_names()[-1] == "server_down")
    changes, names = agent.kernel.changes(), agent.event_names()
    status = agent.status()["services"]
    for number in range(1, 11):
        os.kill(agent.pid("core"), signal.SIGKILL)
        agent.wait(lambda number=number: agent.worker("core")["restarts"] == number)
        agent.wait(lambda: set(agent.states().values()) == {"up", "down"})
        # What is killed sooner takes with it what nobody has been shown yet.
        agent.wait(lambda number=number: len(agent.event_names()) >= len(names) + 2 * number)
    assert agent.kernel.changes() == changes
    after = agent.status()["services"]
    for service in (*status, *after):
        for row in service["servers"]:
            for key in ("latency_ms", "active", "inactive", "connections_per_s", "bytes_in_per_s", "bytes_out_per_s"):
                row.pop(key, None)  # what the kernel counts is read every few seconds
    assert after == status
    agent.wait(lambda: agent.event_names() == [*names, *["worker_lost", "worker_restarted"] * 10])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_losing_the_prober_costs_nothing_but_its_own_events(agent: Agent, number: signal.Signals) -> None:
    changes, names = agent.kernel.changes(), agent.event_names()
    pid = agent.worker("prober")["pid"]
    os.kill(pid, number)
    ended(pid)
    agent.wait(lambda: agent.worker("prober")["restarts"] == 1 and agent.worker("prober")["state"] == "running")
    agent.wait(lambda: agent.event_names() == [*names, "worker_lost", "worker_restarted"])
    assert set(agent.states().values()) == {"up"}
    assert agent.kernel.changes() == changes
    agent.servers[0].stop()
    agent.wait(lambda: agent.states()[agent.servers[0].name] == "down")


def test_a_lost_prober_is_told_in_the_status(agent: Agent) -> None:
    for restarts in range(1, 5):
        os.kill(agent.pid("prober"), signal.SIGKILL)
        agent.wait(lambda restarts=restarts: agent.worker("prober")["restarts"] == restarts)
        if agent.worker("prober")["state"] == "lost":
            break
        agent.wait(lambda: agent.worker("prober")["state"] == "running")
    agent.wait(lambda: agent.worker("prober")["state"] == "running")
    agent.wait(lambda: agent.status()["warnings"] == [])
    lost = [event for event in agent.events() if event.name == "worker_lost"]
    assert "its servers keep their last states; it is started again in 50 ms" in lost[0].reason


def test_core_and_prober_killed_together_go_on_from_the_kernel(agent: Agent) -> None:
    changes = agent.kernel.changes()
    core, prober = agent.worker("core")["pid"], agent.worker("prober")["pid"]
    for pid in (core, prober):
        os.kill(pid, signal.SIGKILL)
    agent.wait(lambda: agent.worker("core")["restarts"] == 1 and set(agent.states().values()) == {"up"})
    assert agent.kernel.changes() == changes
    assert "server_down" not in agent.event_names()


def test_what_someone_else_changes_is_put_back_with_an_event(agent: Agent) -> None:
    (key, entry), *_ = agent.kernel.read().items()
    foreign = {type(key)(key.family, "tcp", "192.0.2.200", 80): entry}
    agent.kernel.write({key: type(entry)(entry.service, {}), **foreign})
    agent.wait(lambda: "ipvs_drift" in agent.event_names())
    assert agent.kernel.read() == {key: entry, **foreign}
    (event,) = [event for event in agent.events() if event.name == "ipvs_drift"]
    assert event.service == "web"
    assert "was missing from" in event.reason


def test_a_change_that_the_kernel_refuses_is_told_once_and_tried_again(agent: Agent) -> None:
    refuse = agent.kernel.refuse_file
    refuse.touch()
    agent.servers[0].stop()
    agent.wait(lambda: "ipvs_refused" in agent.event_names())
    assert any("DeleteDestination refused" in warning for warning in agent.status()["warnings"])
    refuse.unlink()
    agent.wait(lambda: agent.table() == {agent.servers[1].name: 1})
    agent.wait(lambda: agent.status()["warnings"] == [])
    assert agent.event_names().count("ipvs_refused") == 1
    assert "ipvs_drift" not in agent.event_names()


def test_changes_that_break_off_half_way_are_read_back_and_finished(agent: Agent) -> None:
    agent.kernel.break_file.touch()
    for server in agent.servers:
        server.stop()
    agent.wait(lambda: "ipvs_refused" in agent.event_names())
    agent.kernel.break_file.unlink()
    agent.wait(lambda: agent.table() == {})
    refused = next(record for record in agent.events() if record.name == "ipvs_refused")
    assert refused.reason == "the kernel does not answer; it is tried again"
    assert "ipvs_drift" not in agent.event_names()  # what we did ourselves is nobody else's work
    agent.wait(lambda: agent.status()["warnings"] == [])


def test_drain_and_disable_survive_a_restart(agent: Agent) -> None:
    first, second = agent.servers
    assert agent.ctl("drain", "web", first.address) == f"web {first.name}: drained\n"
    assert agent.ctl("disable", "web", second.name) == f"web {second.name}: disabled\n"
    assert agent.table() == {first.name: 0}
    agent.stop()
    agent.start()
    agent.wait(lambda: agent.states() == {first.name: "draining", second.name: "disabled"})
    assert agent.table() == {first.name: 0}
    assert agent.ctl("undrain", "all", "all") == f"web {first.name}: back in service\n"
    assert agent.ctl("enable", "web", "all") == f"web {second.name}: back in service\n"
    agent.wait_up()
    assert agent.ctl("enable", "web", "all") == "not disabled\n"


def test_a_service_with_another_name_keeps_its_drained_servers(agent: Agent) -> None:
    first, second = agent.servers
    agent.ctl("drain", "web", first.name)
    agent.config.write_text(agent.config.read_text().replace('name = "web"', 'name = "www"'))
    assert f"service www: {first.name} stays drained, as it was when it was called web" in agent.ctl("reload")
    agent.wait(lambda: agent.states() == {first.name: "draining", second.name: "up"})
    agent.wait(lambda: '"www"' in (agent.directory / "state/admin.json").read_text())
    agent.stop()
    agent.start()
    agent.wait(lambda: agent.states() == {first.name: "draining", second.name: "up"})
    agent.stop()
    agent.config.write_text(agent.config.read_text().replace('name = "www"', 'name = "shop"'))
    agent.start()
    agent.wait(lambda: agent.states() == {first.name: "draining", second.name: "up"})
    assert agent.table() == {first.name: 0, second.name: 1}
    assert agent.ctl("undrain", "shop", first.name) == f"shop {first.name}: back in service\n"


def test_drain_waits_for_connections(agent: Agent) -> None:
    first = agent.servers[0]
    agent.kernel.connections_file.write_text("3")
    text = agent.ctl("drain", "web", first.address, "--wait", "--timeout", "600ms", status=1)
    assert "3 connections left" in text
    assert "3 connections left after 0.6 s; the drain goes on" in text
    waiting = subprocess.Popen(
        [*CTL, agent.directory / "run", "drain", "web", first.address, "--wait", "--json"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "3 connections left\n"
    agent.kernel.connections_file.write_text("0")
    output, _ = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0
    assert json.loads(output)["connections"] == 0


def test_a_drain_that_is_ended_is_waited_for_no_more(agent: Agent) -> None:
    first = agent.servers[0]
    agent.kernel.connections_file.write_text("3")
    waiting = subprocess.Popen(
        [*CTL, agent.directory / "run", "drain", "web", first.address, "--wait"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "3 connections left\n"
    agent.ctl("undrain", "web", first.address)
    _, errors = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, errors) == (
        1,
        f"hawatch ctl: web {first.name} is no longer drained: the wait is over\n",
    )


def test_reload_is_all_or_nothing(agent: Agent) -> None:
    good = agent.config.read_text()
    changes = agent.kernel.changes()
    agent.config.write_text(good.replace("port = 80\n", "port = 99999\n").replace('"tcp"', '"nonsense"', 1))
    text = agent.ctl("reload", status=1)
    assert "port" in text
    assert "nonsense" in text
    assert agent.kernel.changes() == changes
    assert any("the last reload was refused" in warning for warning in agent.status()["warnings"])
    agent.config.write_text(good.replace('scheduler = "wlc"', "") + "weight = 5\n")
    assert f"server {agent.servers[1].name}: weight 1 -> 5" in agent.ctl("reload")
    agent.wait(lambda: agent.table() == {agent.servers[0].name: 1, agent.servers[1].name: 5})
    assert agent.status()["warnings"] == []
    assert agent.ctl("reload") == "the configuration is the same; nothing to change\n"
    assert [name for name in agent.event_names() if name.startswith("config")] == [
        "config_rejected", "config_reloaded", "config_reloaded",
    ]  # fmt: skip


def test_a_ctl_socket_that_is_removed_is_there_again_also_for_the_cores_to_come(agent: Agent) -> None:
    path = agent.directory / "run" / "ctl.sock"
    path.unlink()
    agent.wait(path.exists)
    agent.wait(lambda: set(agent.states().values()) == {"up"})
    os.kill(agent.pid("core"), signal.SIGKILL)
    agent.wait(lambda: bool(agent.states()) and agent.worker("core")["restarts"] == 1)
    assert "state_broken" not in agent.event_names()


def test_a_reload_gives_the_sockets_to_another_group_of_users(agent: Agent) -> None:
    paths = [agent.directory / "run" / name for name in ("ctl.sock", "console.sock")]
    agent.wait(lambda: all(path.exists() for path in paths))
    for group, gid in (("daemon", grp.getgrnam("daemon").gr_gid), ("", os.getegid())):
        agent.write_config(f'[control]\ngroup = "{group}"')
        assert "control: group" in agent.ctl("reload")
        assert [path.stat().st_gid for path in paths] == [gid, gid]


def test_a_core_born_after_a_reload_has_the_new_configuration(agent: Agent) -> None:
    agent.config.write_text(agent.config.read_text().replace('name = "web"', 'name = "shop"'))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait(lambda: agent.status()["services"][0]["name"] == "shop")
    agent.wait_up()
    agent.config.write_text("rubbish")
    os.kill(agent.pid("core"), signal.SIGKILL)
    agent.wait(lambda: agent.worker("core")["restarts"] == 1)
    assert agent.status()["services"][0]["name"] == "shop"


def test_a_reload_gives_the_next_start_its_head_start(agent: Agent) -> None:
    places = Places(agent.config, agent.directory / "run", agent.directory / "state")

    def start() -> int | None:
        return take_head_start(places, "lvs1", lambda: agent.kernel, lambda plan: [])

    text = "".join(line for line in agent.config.read_text().splitlines(True) if not line.startswith("probe"))
    for content in (text, f"{text}# the same in other words\n"):
        agent.config.write_text(content)
        agent.ctl("reload")
    agent.stop()
    assert start() == 0, "the kernel has it all"
    agent.config.write_text(text)
    assert start() is None


def test_a_reload_does_not_wait_for_a_disk_that_hangs(agent: Agent) -> None:
    """What it leaves to the next start is left when the disk has come round."""
    places = Places(agent.config, agent.directory / "run", agent.directory / "state")
    os.mkfifo(places.head_start_file)  # who opens it waits, as at a disk that hangs
    text = agent.config.read_text()
    agent.config.write_text("".join(line for line in text.splitlines(True) if not line.startswith("probe")))
    began = time.monotonic()
    assert "probe" in agent.ctl("reload")
    assert REMEMBER_S <= time.monotonic() - began < PATIENCE_S / 2
    agent.ctl("reload")  # one thread waits, one more reads the file
    threads = Path(f"/proc/{agent.pid('core')}/task")
    count = len(list(threads.iterdir()))
    agent.ctl("reload")
    assert len(list(threads.iterdir())) == count, "threads wait for the disk, one for each reload"
    assert places.head_start_file.is_fifo()
    assert set(agent.states().values()) == {"up"}
    places.head_start_file.write_bytes(b"")  # it comes round
    agent.wait(places.head_start_file.is_file)
    agent.stop()
    assert take_head_start(places, "lvs1", lambda: agent.kernel, lambda plan: []) == 0


def test_a_service_that_is_taken_out_of_the_file_is_taken_out_of_the_kernel(agent: Agent) -> None:
    agent.config.write_text('[[director]]\nname = "lvs1"\n')
    assert agent.ctl("reload") == "service web: removed\n"
    agent.wait(lambda: agent.kernel.read() == {})


def test_unknown_names_list_the_known_ones(agent: Agent) -> None:
    assert "known services: web" in agent.ctl("drain", "mail", "all", status=1)
    assert agent.servers[1].name in agent.ctl("drain", "web", "192.0.2.99", status=1)
    assert "a single director" in agent.ctl("switchover", status=1)


def test_events_come_back_after_a_restart_and_are_followed(agent: Agent) -> None:
    agent.stop()
    agent.start()
    agent.wait(lambda: set(agent.states().values()) == {"up"})
    names = [json.loads(line)["name"] for line in agent.ctl("events", "--json", "-n", "10000").splitlines()]
    assert names == agent.event_names()
    assert names.count("agent_started") == 2
    follower = subprocess.Popen(
        # A test run in the background of a shell ignores ctrl-C, and with it whatever it starts.
        ["env", "--default-signal=INT", *CTL, agent.directory / "run", "events", "--follow", "-n", "1"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with follower:
        try:
            assert follower.stdout is not None
            assert "agent_started" in follower.stdout.readline()
            agent.ctl("drain", "web", "all")
            assert "server_drained" in follower.stdout.readline()
            follower.send_signal(signal.SIGINT)
            assert follower.wait(PATIENCE_S) == 0
        finally:
            follower.kill()


def test_a_state_that_cannot_be_written_refuses_the_command(agent: Agent) -> None:
    (agent.directory / "state" / "admin.json.new").symlink_to("/dev/full")
    assert "cannot be written" in agent.ctl("drain", "web", "all", status=1)
    assert set(agent.states().values()) == {"up"}


def test_a_second_agent_in_the_same_directory_is_refused(agent: Agent) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "tests.unit.agent.agent_site", agent.config, "lvs1", agent.directory],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert f"an agent (process {agent.process.pid}) runs in" in second.stderr
    assert set(agent.states().values()) == {"up"}


def test_no_agent_is_status_three(tmp_path: Path) -> None:
    done = subprocess.run(
        [*CTL, tmp_path, "status"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "no agent answers" in done.stderr


def test_a_weight_that_a_program_asks_for_outlives_the_core(agent: Agent) -> None:
    first, second = agent.servers
    status = agent.directory / "status"
    status.write_text("7")
    program = agent.directory / "weigh"
    program.write_text(f"#!/bin/sh\nexit $(cat {status})\n")
    program.chmod(0o755)
    text = agent.config.read_text()
    start, end = text.index("probe = {"), text.index("on_all_down")
    probe = f'probe = {{ type = "exec", command = ["{program}"], weight_from_status = true, interval = "200ms", ' + (
        'timeout = "200ms", rise = 1, fall = 2 }\n'
    )
    agent.config.write_text(text[:start] + probe + text[end:])
    agent.ctl("reload")
    agent.wait(lambda: agent.table() == {first.name: 5, second.name: 5})
    changes = agent.kernel.changes()
    for name in ("core", "core", "prober"):
        pid = agent.worker(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        agent.wait(lambda pid=pid, name=name: bool(agent.states()) and agent.worker(name)["pid"] not in (0, pid))
        agent.wait(lambda: agent.worker("prober")["state"] == "running")
        # The prober's next summary has come: it has looked at the servers since.
        agent.wait(lambda: None not in [one.get("latency_ms") for one in agent.status()["services"][0]["servers"]])
    assert agent.kernel.changes() == changes
    status.write_text("0")
    agent.wait(lambda: agent.table() == {first.name: 1, second.name: 1})
