"""What a machine in trouble, a careless administrator or a broken client does to a running agent: next to nothing."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab.uml import in_guest
from tests.unit.agent.test_core import PATIENCE_S, ROOT, Agent, Server, ended

pytestmark = pytest.mark.slow
RELOADS, WARM_UP_RELOADS = 1000, 100


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    found = [Server("127.0.0.4"), Server("127.0.0.5")]
    yield found
    for server in found:
        server.stop()


@contextmanager
def running(directory: Path, servers: list[Server]) -> Iterator[Agent]:
    agent = Agent(directory, servers)
    try:
        agent.wait_up()
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait()


@pytest.fixture
def agent(tmp_path: Path, servers: list[Server]) -> Iterator[Agent]:
    with running(tmp_path, servers) as found:
        yield found


def works(agent: Agent) -> None:
    """See that the agent notices a server that stops, and the same server again."""
    first, *others = agent.servers
    first.stop()
    agent.wait(lambda: agent.table() == {one.name: 1 for one in others})
    first.start()
    agent.wait_up()


# --- disks ---------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """Mount a disk of 2 MB: room for the journal, and soon full."""
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "hawatch-test", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.netns
def test_a_full_disk_for_the_state_costs_what_is_to_be_written_there(tmp_path: Path, servers: list[Server]) -> None:
    with small_disk(tmp_path / "state") as disk, running(tmp_path, servers) as agent:
        with (disk / "events.jsonl").open("ab") as events:
            events.write(b"\n" * (-events.tell() % 4096))  # not even its last page has room
        fill(disk)
        works(agent)
        assert any("No space left" in warning for warning in agent.status()["warnings"])
        assert "cannot be written" in agent.ctl("drain", "web", "all", status=1)
        assert "server_down" in agent.ctl("events", "-n", "10")
        assert [agent.worker(name)["restarts"] for name in ("core", "prober")] == [0, 0]
        (disk / "filler").unlink()
        works(agent)
        agent.wait(lambda: agent.status()["warnings"] == [])
        agent.ctl("drain", "web", "all")


@pytest.mark.netns
def test_a_full_disk_for_the_runtime_directory_is_told_at_start(tmp_path: Path) -> None:
    with small_disk(tmp_path / "run") as disk:
        fill(disk)
        done = start_badly(tmp_path, '[[director]]\nname = "lvs1"\n')
    assert done.returncode == 1
    assert "hawatch.pid: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"version": 1, "servers": [{"ser',
        b"\0\xff" * 4000,
        b'{"version": 99}',
        b'{"servers": [{"service": "\xff", "server": "a", "admin": "drain"}]}',
        b'{"a":' * 9000,
    ],
)
def test_state_files_that_are_broken(tmp_path: Path, servers: list[Server], content: bytes) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for name in ("admin.json", "events.jsonl"):
        (state / name).write_bytes(content)
    with running(tmp_path, servers) as agent:
        assert any("admin.json is broken" in warning for warning in agent.status()["warnings"])
        assert (state / "admin.json.broken").read_bytes() == content
        works(agent)
        agent.ctl("drain", "web", "all")
        assert agent.status()["warnings"] == []


# --- configurations ------------------------------------------------------------------------------------------


def start_badly(tmp_path: Path, text: str | None, *before: str) -> subprocess.CompletedProcess[str]:
    """Run `hawatch run` where it cannot; its configuration is a directory when there is no text."""
    config = tmp_path / "hawatch.toml"
    config.mkdir() if text is None else config.write_text(text)
    command = [*before, sys.executable, "-m", "hawatch.cli.main", "run", "-c", str(config), "--node", "lvs1"]
    command += ["--runtime-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_configuration_that_is_a_directory_is_told_at_start(tmp_path: Path) -> None:
    done = start_badly(tmp_path, None)
    assert done.returncode == 2
    assert done.stderr == f"hawatch run: {tmp_path}/hawatch.toml: cannot be read: Is a directory\n"


def test_a_configuration_that_is_gone_or_a_directory_stays_without_effect(agent: Agent) -> None:
    agent.config.unlink()
    assert "cannot be read: No such file" in agent.ctl("reload", status=1)
    agent.config.mkdir()
    assert "cannot be read: Is a directory" in agent.ctl("reload", status=1)
    os.kill(agent.pid("core"), signal.SIGKILL)
    agent.wait(lambda: agent.worker("core")["restarts"] == 1)
    agent.config.rmdir()
    works(agent)


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


@pytest.mark.timeout(400)
def test_a_thousand_reloads_do_not_make_it_grow(agent: Agent) -> None:
    text = agent.config.read_text()
    other = text.replace("fall = 2", "fall = 3")
    pids = [agent.process.pid, *(agent.worker(name)["pid"] for name in ("core", "prober"))]
    before: list[tuple[int, int]] = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(agent.directory / "run" / "ctl.sock"))
        connection.settimeout(PATIENCE_S)
        with connection.makefile("rwb") as stream:
            for number in range(WARM_UP_RELOADS + RELOADS):
                if number == WARM_UP_RELOADS:
                    before = [(resident_kb(pid), len(os.listdir(f"/proc/{pid}/fd"))) for pid in pids]
                agent.config.write_text(text if number % 2 else other)
                stream.write(b'{"command": "reload"}\n')
                stream.flush()
                assert b'"kind":"done"' in stream.readline()
    after = [(resident_kb(pid), len(os.listdir(f"/proc/{pid}/fd"))) for pid in pids]
    assert all(now <= then + 2 for (_, now), (_, then) in zip(after, before, strict=True)), (before, after)
    growth_kb = [now - then for (now, _), (then, _) in zip(after, before, strict=True)]
    assert max(growth_kb) < 4096, (before, after)
    works(agent)


# --- clients of the ctl socket -------------------------------------------------------------------------------


def connect(agent: Agent) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect(str(agent.directory / "run" / "ctl.sock"))
    return connection


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100 + b"\n",
        b"\xff\xfe{\n",
        b'{"command": 1}\n',
        b"[" * 50_000 + b"\n",
        b'{"command": "drain", "\xff": 1}\n',
        b'{"a":' * 9000 + b"\n",
    ],
)
def test_a_client_that_sends_garbage_is_told(agent: Agent, garbage: bytes) -> None:
    with connect(agent) as client:
        client.sendall(garbage)
        assert b'"kind":"refused"' in client.recv(65536)
    works(agent)


def test_clients_that_send_too_much_or_half_or_never_read(agent: Agent) -> None:
    with connect(agent) as endless, connect(agent) as half, connect(agent) as deaf:
        with suppress(OSError):
            for _ in range(1000):
                endless.sendall(b"x" * 1_000_000)
        half.sendall(b'{"command": "sta')
        deaf.settimeout(0)
        with suppress(OSError):
            while True:
                deaf.sendall(b'{"command": "status"}\n')
        works(agent)
    assert agent.worker("core")["restarts"] == 0


def test_five_hundred_clients(agent: Agent) -> None:
    clients: list[socket.socket] = []
    try:
        for _ in range(500):
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.connect(str(agent.directory / "run" / "ctl.sock"))  # waits while the queue is full
            client.settimeout(PATIENCE_S)
        refused = clients[-1].recv(65536)
        assert b"clients are connected already" in refused
        agent.servers[0].stop()
        agent.wait(lambda: agent.table() == {agent.servers[1].name: 1})
    finally:
        for client in clients:
            client.close()
    agent.servers[0].start()
    agent.wait(lambda: bool(agent.states()))
    agent.wait_up()
    assert agent.worker("core")["restarts"] == 0


# --- output, files, signals, others at work ------------------------------------------------------------------


def test_nobody_reads_its_output(tmp_path: Path, servers: list[Server]) -> None:
    read_end, write_end = os.pipe()

    class Piped(Agent):
        def start(self) -> None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.unit.agent.agent_site", self.config, "lvs1", self.directory],
                cwd=ROOT, stdout=write_end, stderr=write_end, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 4096)
    os.set_blocking(write_end, True)
    agent = Piped(tmp_path, servers)
    (tmp_path / "output").touch()
    try:
        agent.wait_up()
        for number in range(1, 4):
            os.kill(agent.pid("core"), signal.SIGKILL)
            os.kill(agent.pid("prober"), signal.SIGKILL)
            agent.wait(lambda number=number: agent.worker("core")["restarts"] == number)
            agent.wait(lambda number=number: agent.worker("prober")["restarts"] == number)
        works(agent)
        agent.wait(lambda: agent.event_names().count("server_up") == 3)  # the file has them all
        agent.stop()
    finally:
        agent.process.kill()
        agent.process.wait()
        os.close(read_end)
        os.close(write_end)


def test_without_standard_descriptors(tmp_path: Path, servers: list[Server]) -> None:
    class Closed(Agent):
        def start(self) -> None:
            command = f"exec {sys.executable} -m tests.unit.agent.agent_site {self.config} lvs1 {self.directory}"
            self.process = subprocess.Popen(["sh", "-c", f"{command} <&- >&- 2>&-"], cwd=ROOT)

    agent = Closed(tmp_path, servers)
    (tmp_path / "output").touch()
    try:
        agent.wait_up()
        works(agent)
        os.kill(agent.pid("prober"), signal.SIGKILL)
        agent.wait(lambda: agent.worker("prober")["restarts"] == 1)
        agent.stop()
    finally:
        agent.process.kill()
        agent.process.wait()


def test_too_few_files_may_be_open(tmp_path: Path) -> None:
    text = '[[director]]\nname = "lvs1"\n'
    done = start_badly(tmp_path, text, "prlimit", "--nofile=60:60")
    assert done.returncode == 1
    assert "at most 60 files may be open" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_prober_that_runs_out_of_files_takes_no_server_out(agent: Agent) -> None:
    changes, pid = agent.kernel.changes(), agent.worker("prober")["pid"]
    used = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # The next descriptor is the limit's: none is to be had.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(used, 3), before[1]))
    agent.wait(lambda: agent.worker("prober")["discarded"] > 10)
    assert set(agent.states().values()) == {"up"}
    assert agent.kernel.changes() == changes
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    works(agent)
    assert "server_down" in agent.event_names()


def test_a_core_that_runs_out_of_files_refuses_what_needs_one(agent: Agent) -> None:
    pid = agent.worker("core")["pid"]
    with connect(agent) as client, client.makefile("rwb") as stream:
        stream.write(b'{"command": "status"}\n')
        stream.flush()
        assert b'"kind":"done"' in stream.readline()
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        agent.config.write_text(agent.config.read_text().replace("fall = 2", "fall = 3"))
        for command in (b'"reload"', b'"drain", "service": "all", "server": "all"'):
            stream.write(b'{"command": ' + command + b"}\n")
            stream.flush()
            answer = stream.readline()
            assert b'"kind":"refused"' in answer
            assert b"Too many open files" in answer
        with connect(agent) as waiting:
            os.kill(agent_pid_of_prober(agent), signal.SIGKILL)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            waiting.sendall(b'{"command": "status"}\n')
            assert b'"kind":"done"' in waiting.recv(65536)
    works(agent)


def agent_pid_of_prober(agent: Agent) -> int:
    """Return the prober's process id without asking the core."""
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if "prober" in Path(f"/proc/{pid}/comm").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_end_it_once_or_twice(agent: Agent, number: signal.Signals) -> None:
    agent.process.send_signal(number)
    agent.process.send_signal(number)
    agent.process.send_signal(signal.SIGHUP)
    assert agent.process.wait(PATIENCE_S) == 0
    assert agent.event_names().count("agent_stopped") == 1
    assert agent.table() == {one.name: 1 for one in agent.servers}


def test_a_core_that_is_stopped_is_replaced(agent: Agent) -> None:
    changes, before = agent.kernel.changes(), agent.event_names()
    os.kill(agent.pid("core"), signal.SIGSTOP)
    agent.wait(lambda: "worker_lost" in agent.event_names())
    agent.wait_up()
    assert agent.worker("core")["restarts"] == 1
    lost = next(record for record in agent.events() if record.name == "worker_lost")
    assert "no answer" in lost.reason or "has not answered" in lost.reason
    assert [name for name in agent.event_names()[len(before) :] if name.startswith(("server", "service"))] == []
    assert agent.kernel.changes() == changes
    works(agent)


def test_a_keeper_that_is_killed_takes_its_children_along_and_leaves_the_table(agent: Agent) -> None:
    changes = agent.kernel.changes()
    pids = [agent.worker(name)["pid"] for name in ("core", "prober")]
    agent.process.kill()
    agent.process.wait()
    for pid in pids:
        with suppress(ProcessLookupError):
            ended(pid)
    agent.start()  # nobody holds the locks, and the ctl socket that was left is replaced
    agent.wait_up()
    assert agent.kernel.changes() == changes
    works(agent)


def test_somebody_who_changes_our_services_all_the_time_is_not_raced(agent: Agent) -> None:
    (key, entry), *_ = agent.kernel.read().items()
    began, before = time.monotonic(), agent.kernel.changes()
    ended = threading.Event()

    def tamper() -> None:
        while not ended.wait(0.005):
            agent.kernel.write({key: type(entry)(entry.service, {})})

    thread = threading.Thread(target=tamper)
    thread.start()
    try:
        agent.wait(lambda: agent.event_names().count("ipvs_drift") >= 2)
    finally:
        ended.set()
        thread.join()
    seconds = time.monotonic() - began
    assert agent.kernel.changes() - before <= len(agent.servers) * (seconds / 2 + 2)
    agent.wait_up()


@pytest.mark.kernel
@pytest.mark.guest
def test_a_step_of_the_wall_clock_changes_nothing(agent: Agent) -> None:
    assert in_guest(), "nobody else's clock is stepped"
    changes = agent.kernel.changes()
    for days in (1, -2, 1):
        time.clock_settime(time.CLOCK_REALTIME, time.time() + days * 86400)
        runs = agent.status()
        agent.wait(lambda runs=runs: agent.status()["time"] != runs["time"])
        works(agent)
    assert [agent.worker(name)["restarts"] for name in ("core", "prober")] == [0, 0]
    assert agent.kernel.changes() == changes + 2 * 3
