"""Two directors with real leases and probes: an administrator hears of each failure once, whoever owns the group.

The IPVS table is one in files, so that it runs on any kernel; what is told does not depend on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator

import pytest

from hawatch.agent.events import read_after
from tests.lab.pair.hawatch import Hawatch
from tests.lab.pair.machine import Machine, wait_owner
from tests.lab.pair.namespaces import Node
from tests.lab.pair.shell import signal_all, wait_until
from tests.lab.pair.site import VIP, Site, address_of, site

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(180)]
SERVICE = """
notify = { owner = ["HOME/notify", "owner"], standby = ["HOME/notify", "standby"], every = ["HOME/notify"] }

[[service]]
name = "http"
group = "web"
address = "VIP"
port = 80
forward = "masquerade"
on_all_down = "empty"
probe = { type = "tcp", interval = "200ms", timeout = "200ms", rise = 1, fall = 2 }
server = [{ address = "RS2" }, { address = "RS3" }]

[alert.program.file]
command = ["HOME/alert"]
burst = 100
"""
SCRIPT = '#!/bin/sh\necho "{words}" >> {home}/{file}\n'


class WithServices(Hawatch):
    """The agent of the pair with a service whose table is in files, and with programs that write down what they hear."""

    def command(self, node: Node, what: str) -> list[str]:
        """Return the command line of an agent or a witness."""
        home = node.scratch
        words = {
            "alert": "$MON_ALERTTYPE $HAWATCH_EVENT $MON_LAST_SUMMARY",
            "notify": "$* | $HAWATCH_EVENT",
        }
        for name, text in words.items():
            script = home / name
            script.write_text(SCRIPT.format(words=text, home=home, file=f"{name}.log"))
            script.chmod(0o755)
        places = {"HOME": str(home), "VIP": VIP, "RS2": address_of("rs2"), "RS3": address_of("rs3")}
        self.extra = re.sub("|".join(places), lambda match: places[match[0]], SERVICE)  # goes on in the group's table
        argv = super().command(node, what)
        if what == "witness":
            return argv
        return [sys.executable, "-m", "tests.unit.agent.agent_site", str(home / "hawatch.toml"), node.name, str(home)]


def lines(director: Machine, name: str) -> list[str]:
    """Return what a director's program wrote down."""
    path = director.node.scratch / f"{name}.log"
    return path.read_text().splitlines() if path.exists() else []


def told(director: Machine, what: str) -> list[str]:
    """Return the alerts about something, without what differs from run to run."""
    found = [line for line in lines(director, "alert") if what in line]
    return [re.sub(r" after .*", "", line) for line in found]


class WebServer:
    """A port of a real server that can be closed."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "http.server", "80"]
        self.process = self.node.start(argv, log=self.node.scratch / "web.log")

    def stop(self) -> None:
        signal_all([self.process.pid], 9)
        self.process.wait(10)


@pytest.fixture
def pair() -> Iterator[tuple[Site, Machine, Machine, WebServer]]:
    adapter = WithServices("fast")
    with site(directors=("lvs1", "lvs2"), witness=True) as made:
        servers = [WebServer(made.node(name)) for name in ("rs2", "rs3")]
        assert made.witness is not None
        Machine(made.witness, adapter).start()
        directors = [Machine(node, adapter) for node in made.directors]
        for director in directors:
            director.start()
        owner = wait_owner(directors, VIP)
        standby = next(one for one in directors if one is not owner)
        for one in directors:
            wait_until(lambda one=one: up(one) == 2, f"{one.node.name} sees both servers", limit_s=30)  # type: ignore[misc]
        yield made, owner, standby, servers[0]


def up(director: Machine) -> int:
    """Count the servers that a director sees up."""
    status = director.adapter.ctl(director.node, "status", "--json", check=False)  # type: ignore[attr-defined]
    services = json.loads(status or "{}").get("services", [])
    return sum(server["state"] == "up" for service in services for server in service["servers"])


DOWN = f"failure server_down [lab] http {address_of('rs2')}:80 DOWN: connection refused"
UP = f"up server_up [lab] http {address_of('rs2')}:80 up"


def test_each_failure_is_told_and_its_end_whoever_owns_the_group(
    pair: tuple[Site, Machine, Machine, WebServer],
) -> None:
    _, owner, standby, server = pair
    server.stop()
    wait_until(lambda: told(owner, "http") == [DOWN], "the owner tells", limit_s=30)
    wait_until(lambda: "server_down" in journal(standby), "the standby has it in its journal", limit_s=30)
    acknowledged = standby.adapter.ctl(standby.node, "ack", "http")  # type: ignore[attr-defined]
    assert f"{owner.node.name} tells of it: acknowledge it there too" in acknowledged
    owner.adapter.ctl(owner.node, "switchover", "--to", standby.node.name)  # type: ignore[attr-defined]
    wait_until(lambda: "owner" in "".join(lines(standby, "notify")), "its programs are told", limit_s=30)
    server.start()
    wait_until(lambda: told(standby, " up") == [UP], "the new owner tells the end", limit_s=30)
    wait_until(lambda: told(owner, "http") == [DOWN, UP], "and so does who told the beginning", limit_s=30)
    assert told(standby, "http") == [UP], "what is acknowledged there is not told again, but its end is"

    former, owner = owner, standby
    former.power_off()
    wait_until(lambda: told(owner, "DIRECTOR DEAD"), "a dead standby is told by the owner", limit_s=30)
    name = owner.node.name
    assert lines(owner, "notify")[:2] == ["owner | takeover", "GROUP web MASTER 0 | takeover"], name
    assert lines(former, "notify")[-2:] == ["standby | release", "GROUP web BACKUP 0 | release"]


def journal(director: Machine) -> str:
    """Return what the director's journal has of the last minutes."""
    found: str = director.adapter.ctl(director.node, "events", "--since", "10m", "--json", check=False)  # type: ignore[attr-defined]
    return found


def test_what_the_owner_died_over_is_told_by_its_successor(
    pair: tuple[Site, Machine, Machine, WebServer],
) -> None:
    _, owner, standby, server = pair
    server.stop()
    wait_until(lambda: "server_down" in journal(standby), "the standby knows", limit_s=30)
    owner.power_off()
    wait_until(lambda: told(standby, "DIRECTOR DEAD"), "the owner's death is told", limit_s=30)
    wait_until(lambda: told(standby, "server_down") == [DOWN], "what it may not have told is told", limit_s=30)
    server.start()
    wait_until(lambda: told(standby, "server_up") == [UP], "and its end", limit_s=30)


STOP_S = float(os.environ.get("HAWATCH_TEST_STOP_S", "4"))
HURT = {"lease_late", "lease_lost", "release", "takeover", "quorum_lost", "director_dead", "worker_lost"}


def console_of(director: Machine) -> int:
    """Return the process of a director's console."""
    status = json.loads(director.adapter.ctl(director.node, "status", "--json"))  # type: ignore[attr-defined]
    return next(int(worker["pid"]) for worker in status["workers"] if worker["name"] == "console")


def test_a_stopped_console_makes_no_lease_and_no_verdict_late(
    pair: tuple[Site, Machine, Machine, WebServer],
) -> None:
    """Of both directors, under a load of events; then each catches up."""
    _, owner, standby, server = pair
    consoles = [console_of(one) for one in (owner, standby)]
    before = {one: set(events(one)) for one in (owner, standby)}
    signal_all(consoles, signal.SIGSTOP)
    try:
        until = time.monotonic() + STOP_S
        while time.monotonic() < until:
            owner.adapter.ctl(owner.node, "disable", "http", address_of("rs3"))  # type: ignore[attr-defined]
            owner.adapter.ctl(owner.node, "enable", "http", address_of("rs3"))  # type: ignore[attr-defined]
        server.stop()
        wait_until(lambda: "server_down" in names(owner), "a verdict comes all the same", limit_s=30)
        for one in (owner, standby):
            assert not HURT & {name for name, number in set(events(one)) - before[one]}, one.node.name
        assert told(owner, "http") == []
    finally:
        signal_all(consoles, signal.SIGCONT)
    wait_until(lambda: told(owner, "server_down") == [DOWN], "it is told when the console goes on", limit_s=30)
    wait_until(lambda: set(events(owner)) <= journaled(owner), "its journal is complete", limit_s=30)
    assert [console_of(one) for one in (owner, standby)] == consoles


def events(director: Machine) -> list[tuple[str, int]]:
    """Return name and number of each event that a director's core has told of."""
    path = director.node.scratch / "state/events.jsonl"
    return [(record.name, record.id) for part in read_after(path, 0, 1000) for record in part]


def names(director: Machine) -> set[str]:
    """Return the names of a director's events."""
    return {name for name, _ in events(director)}


def journaled(director: Machine) -> set[tuple[str, int]]:
    """Return name and number of each event in a director's journal."""
    with contextlib.closing(sqlite3.connect(director.node.scratch / "state/console.db", timeout=10)) as database:
        return set(database.execute("SELECT name, id FROM event"))
