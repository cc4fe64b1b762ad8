"""The agent on a kernel with IPVS: `hawatch run` as it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.test_core import ROOT, Agent, Server, ended

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

FOREIGN = "192.0.2.200:80"


def ipvsadm(*words: str) -> str:
    return subprocess.run(["ipvsadm", *words], check=True, capture_output=True, text=True, timeout=30).stdout


class KernelAgent(Agent):
    """An agent that keeps the kernel's own table."""

    def start(self) -> None:
        with (self.directory / "output").open("ab") as output:
            command = [sys.executable, "-m", "hawatch.cli.main", "run", "-c", str(self.config), "--node", "lvs1"]
            command += ["--runtime-dir", str(self.directory / "run"), "--state-dir", str(self.directory / "state")]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    def table(self) -> dict[str, int]:
        """Return the weights in the kernel's table by server, of our service."""
        found: dict[str, int] = {}
        for line in ipvsadm("-S", "-n").splitlines():
            words = line.split()
            if words[0] == "-a" and words[2] == "192.0.2.110:80":
                found[words[4]] = int(words[-1])
        return found


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[KernelAgent]:
    ipvsadm("-C")
    ipvsadm("-A", "-t", FOREIGN, "-s", "rr")
    ipvsadm("-a", "-t", FOREIGN, "-r", "192.0.2.201", "-m", "-w", "7")
    servers = [Server("127.0.0.2"), Server("127.0.0.3")]
    found = KernelAgent(tmp_path, servers)
    try:
        found.wait_up()
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        for server in servers:
            server.stop()
        ipvsadm("-C")


def foreign() -> str:
    return "".join(line for line in ipvsadm("-S", "-n").splitlines() if FOREIGN in line)


def test_probes_drive_the_kernels_table_and_foreign_services_stay(agent: KernelAgent) -> None:
    before = foreign()
    first, second = agent.servers
    first.stop()
    agent.wait(lambda: agent.table() == {second.name: 1})
    first.start()
    agent.wait_up()
    agent.ctl("drain", "web", first.address)
    assert agent.table() == {first.name: 0, second.name: 1}
    assert foreign() == before


def test_restarts_and_kills_leave_the_table_alone(agent: KernelAgent) -> None:
    before = ipvsadm("-S", "-n")
    agent.stop()
    assert ipvsadm("-S", "-n") == before
    agent.start()
    agent.wait(lambda: set(agent.states().values()) == {"up"})
    for number in range(1, 4):
        os.kill(agent.pid("core"), signal.SIGKILL)
        agent.wait(lambda number=number: agent.worker("core")["restarts"] == number)
        agent.wait(lambda: set(agent.states().values()) == {"up"})
    pid = agent.worker("prober")["pid"]
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    agent.wait(lambda: agent.worker("prober")["restarts"] == 1)
    assert ipvsadm("-S", "-n") == before
    assert {"server_down", "ipvs_drift"}.isdisjoint(agent.event_names())


def test_what_is_changed_by_hand_is_put_back(agent: KernelAgent) -> None:
    before = ipvsadm("-S", "-n")
    first, second = agent.servers
    ipvsadm("-d", "-t", "192.0.2.110:80", "-r", first.name)
    ipvsadm("-e", "-t", "192.0.2.110:80", "-r", second.name, "-m", "-w", "99")
    ipvsadm("-a", "-t", "192.0.2.110:80", "-r", "127.0.0.9:9", "-m")
    agent.wait(lambda: "ipvs_drift" in agent.event_names())
    agent.wait(lambda: sorted(ipvsadm("-S", "-n").splitlines()) == sorted(before.splitlines()))
    ipvsadm("-C")
    agent.wait(lambda: agent.table() == {first.name: 1, second.name: 1})


def test_a_reload_changes_the_scheduler_in_place(agent: KernelAgent) -> None:
    agent.config.write_text(agent.config.read_text().replace("port = 80\n", 'port = 80\nscheduler = "lblc"\n', 1))
    agent.ctl("reload")
    agent.wait(lambda: "-s lblc" in ipvsadm("-S", "-n"))
    assert agent.table() == {one.name: 1 for one in agent.servers}
