"""The promise to outsiders, checked as they would: the real command line, names of the promise, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.outsider import KEYS, WEB_SERVER, Agent, command, until
from tests.lab.pair.namespaces import Node
from tests.lab.pair.site import Site, site
from tests.lab.promise import (
    ABOUT,
    DONE,
    EVENTS,
    EXAMPLE,
    REFUSED,
    STATES,
    STATUS,
    UNAVAILABLE,
    USAGE,
    differences,
    wrong_event,
    wrong_states,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
VIP = "192.168.1.110"
SERVICES = slice(EXAMPLE.index("[[service]]"), EXAMPLE.index("[alert.email.ops]"))


def example(*, services: bool = True, profile: str = "default") -> str:
    """Return the promised example, adapted only in where files lie and whom nobody is to reach."""
    text = EXAMPLE if services else EXAMPLE.replace(EXAMPLE[SERVICES], "")
    for promised, here in (
        ("/etc/hawatch/cluster.key", "HOME/cluster.key"),
        ('password_file = "..."', 'password_file = "HOME/password"'),
        ("https://...", "http://127.0.0.1:9/"),
        ('profile = "default"', f'profile = "{profile}"'),
    ):
        assert promised in text
        text = text.replace(promised, here)
    return text


# --- without an agent ----------------------------------------------------------------------------------------


def test_the_example_is_valid_as_it_stands(tmp_path: Path) -> None:
    """But for the files that it names, which the machine that checks it need not have."""
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "cluster.key").write_text(KEYS)
    (tmp_path / "cluster.key").chmod(0o600)
    file = tmp_path / "hawatch.toml"
    file.write_text(example().replace("HOME", str(tmp_path)))
    for words in (("-c", file), ("--config", file)):
        said = command("check", *words)
        assert (said.status, said.err) == (DONE, "")
    said = command("check", "-c", file, "--json")
    assert said.status == DONE
    assert said.json["ok"] is True
    assert said.json["problems"] == []
    for node in ("lvs1", "lvs2", "rs1"):
        assert command("check", "-c", file, "--node", node).status == DONE


def test_every_mistake_is_told_at_once_and_nothing_is_started(tmp_path: Path) -> None:
    wrong = {
        'profile = "default"': 'profile = "quick"',
        'prefer = "lvs1"': 'prefer = "lvs9"',
        "port = 80": "prot = 80",
        'interval = "2s"': 'interval = "2"',
        'group = "web"': 'group = "mail"',
    }
    text = example()
    for right, mistake in wrong.items():
        assert right in text
        text = text.replace(right, mistake)
    file = tmp_path / "hawatch.toml"
    file.write_text(text.replace("HOME", str(tmp_path)))
    paths = ("cluster.profile", 'group[1] "web".prefer', ".prot", ".probe.interval", ".group")
    for what in ("check", "run", "witness"):
        places = () if what == "check" else ("--runtime-dir", tmp_path / "run", "--state-dir", tmp_path / "state")
        said = command(what, "-c", file, *places)
        assert (said.status, said.out) == (USAGE, "")
        for path in paths:
            assert path in said.err, (what, path)
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "state").exists()
    problems = command("check", "-c", file, "--json").json["problems"]
    for problem in problems:
        assert problem.keys() >= {"path", "line", "found", "accepted"}
    found = {problem["found"]: problem for problem in problems}
    assert '"fast"' in found['"quick"']["accepted"]
    assert found['"lvs9"']["accepted"] == "lvs1, lvs2"
    assert found['"quick"']["line"] == 1 + text[: text.index("profile =")].count("\n")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    for name in ("cluster.key", "password"):
        (tmp_path / name).write_text(KEYS)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "hawatch.toml"
    file.write_text(example().replace("HOME", str(tmp_path)))
    (tmp_path / "cluster.key").chmod(0o640)
    places = ("--runtime-dir", tmp_path / "run", "--state-dir", tmp_path / "state")
    for words in (("check",), ("run", "--node", "lvs1", *places), ("witness", "--node", "rs1", *places)):
        said = command(words[0], "-c", file, *words[1:])
        assert said.status == USAGE, words
        assert "mode 0640" in said.err
    assert not (tmp_path / "run").exists()


def test_a_node_runs_what_it_is(tmp_path: Path) -> None:
    for name in ("cluster.key", "password"):
        (tmp_path / name).write_text(KEYS)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "hawatch.toml"
    file.write_text(example(services=False).replace("HOME", str(tmp_path)))
    places = ("--runtime-dir", tmp_path / "run", "--state-dir", tmp_path / "state")
    for what, node, told in (
        ("run", "rs1", "hawatch witness"),
        ("witness", "lvs1", "hawatch run"),
        ("run", "x", "lvs1"),
    ):
        said = command(what, "-c", file, "--node", node, *places)
        assert said.status == USAGE, (what, node)
        assert told in said.err
    assert not (tmp_path / "run").exists()


def test_keygen_makes_a_file_that_only_its_owner_reads_and_adds_keys(tmp_path: Path) -> None:
    file = tmp_path / "cluster.key"
    assert command("keygen", file).status == DONE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    assert command("keygen", file).status == REFUSED
    assert file.read_text() == before
    assert command("keygen", "--add", file).status == DONE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = [line for line in before.splitlines() if re.match(r"\d+ = ", line)]
    assert len(keys) == 1
    assert keys[0] in file.read_text()
    assert len(re.findall(r"^\d+ = ", file.read_text(), re.MULTILINE)) == 2
    assert command("keygen").status == USAGE


def test_one_probe_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WEB_SERVER, "127.0.0.1", "18080"]) as server:
        try:
            until(lambda: command("probe", "tcp", "127.0.0.1:18080").status == DONE, "the web server listens")
            words = ("probe", "http", "127.0.0.1:18080", "path=/health", "host=www.example.org", "body=ok")
            assert command(*words).status == DONE
            said = command(*words[:4])
            assert said.status == 1
            assert "HTTP 404, wanted 200" in said.out + said.err
            assert command("probe", "ping", "127.0.0.1").status == DONE
            assert command("probe", "exec", "127.0.0.1", "command=/bin/false").status == 1
        finally:
            server.kill()
    assert command("probe", "tcp", "127.0.0.1:18080").status == 1
    for wrong in (("nonsense", "127.0.0.1"), ("tcp",), ("tcp", "127.0.0.1"), ("http", "127.0.0.1:80", "colour=red"),
                  ("http", "127.0.0.1:80", "path"), ("tcp", "no address:80")):  # fmt: skip
        assert command("probe", *wrong).status == USAGE, wrong


COMMANDS = {
    "status": "", "switchover": "", "takeover": "--force --group web", "giveaway": "", "resume": "",
    "drain": "http 192.168.1.1", "undrain": "http 192.168.1.1", "disable": "http 192.168.1.1",
    "enable": "http 192.168.1.1", "events": "", "reload": "",
}  # fmt: skip


def test_commands_without_an_agent_and_wrong_ones(tmp_path: Path) -> None:
    for name, arguments in COMMANDS.items():
        said = command("ctl", "--runtime-dir", tmp_path, name, *arguments.split(), "--json")
        assert said.status == UNAVAILABLE, name
        assert str(tmp_path) in said.err
    for wrong in (
        "nonsense",
        "drain http",
        "takeover --group web",
        "takeover --force",
        "status --colour",
        "switchover web",
    ):
        assert command("ctl", *wrong.split()).status == USAGE, wrong
    assert command("ctl").status == USAGE
    assert command("nonsense").status == USAGE
    assert command().status == USAGE


# --- two directors and a witness -----------------------------------------------------------------------------


class Pair:
    """Two directors and their witness, by the promised example."""

    def __init__(self, made: Site, *, services: bool, profile: str) -> None:
        self.site = made
        text = example(services=services, profile=profile)
        assert made.witness is not None
        self.witness = Agent(made.witness, text, what="witness")
        self.lvs1, self.lvs2 = (Agent(node, text) for node in made.directors)
        for agent in (self.witness, self.lvs1, self.lvs2):
            agent.start()
        self.settle()

    def settle(self) -> None:
        """Wait until all is well: the preferred director owns, everybody is heard."""
        owner = until(lambda: self.lvs1.group()["owner"], "web has an owner")
        if owner != "lvs1":  # what an administrator moved stays where it is
            assert self.lvs1.ctl("switchover", "--to", "lvs1").status == DONE
        for agent in (self.lvs1, self.lvs2):
            until(lambda agent=agent: agent.status()["quorum"]["reachable"] == 3, "all three hear each other")
        until(lambda: self.lvs2.group()["owner"] == "lvs1", "lvs2 knows")


@pytest.fixture(scope="module")
def running() -> Iterator[Pair]:
    with site(directors=("lvs1", "lvs2"), servers=False, witness=True) as made:
        yield Pair(made, services=False, profile="default")


@pytest.fixture
def pair(running: Pair) -> Pair:
    running.settle()
    return running


@pytest.mark.netns
def test_the_status_has_what_is_promised(pair: Pair) -> None:
    for agent, other in ((pair.lvs1, "lvs2"), (pair.lvs2, "lvs1")):
        status = agent.status()
        assert differences(status, STATUS) == []
        assert wrong_states(status) == []
        assert (status["cluster"], status["node"]) == ("epn", agent.node.name)
        assert status["quorum"].items() >= {"mode": "witness", "held": True, "acceptors": 3, "reachable": 3}.items()
        (director,) = status["directors"]
        assert (director["name"], director["state"]) == (other, "alive")
        assert [link["state"] for link in director["links"]] == ["up", "up"]
        (group,) = status["groups"]
        assert group["gate"] == "nftables"
        assert group["addresses"] == [f"{VIP}/32"]
        assert {worker["name"] for worker in status["workers"]} >= {"core", "prober", "console"}
        assert agent.ctl("status").out.startswith(agent.node.name)
    assert pair.lvs1.group()["epoch"] >= 1
    assert (pair.lvs1.has(VIP), pair.lvs2.has(VIP)) == (True, False)


@pytest.mark.netns
def test_ownership_moves_on_command_from_either_director(pair: Pair) -> None:
    for words, owner in ((("switchover", "--group", "web", "--to", "lvs2", "--json"), pair.lvs2),
                         (("switchover", "--json"), pair.lvs1)):  # fmt: skip
        said = pair.lvs1.ctl(*words)
        assert said.status == DONE, said
        assert said.json["took_ms"] > 0
        assert owner.has(VIP)
        assert owner.group()["state"] == "owner"
    for words, reason in (
        ("switchover --group nope", "known groups: web"),
        ("switchover --to nope", "known directors: lvs1, lvs2"),
        ("takeover --force --group web", "lvs1 owns web"),
        ("resume", "nothing was given away"),
    ):
        agent = pair.lvs2 if words.startswith("takeover") else pair.lvs1
        said = agent.ctl(*words.split())
        assert (said.status, said.out) == (REFUSED, "")
        assert reason in said.err
    names = {event["name"] for agent in (pair.lvs1, pair.lvs2) for event in agent.events()}
    assert names >= {"takeover", "release", "switchover", "director_alive", "link_up"}


@pytest.mark.netns
def test_a_reload_moves_no_address_from_one_group_to_another(pair: Pair) -> None:
    moved = pair.lvs1.config.replace(f'"{VIP}/32"', '"192.168.1.119/32"')
    moved += f'\n[[group]]\nname = "other"\naddresses = [{{ address = "{VIP}/32", interface = "eth0" }}]\n'
    pair.lvs1.write(moved)
    said = pair.lvs1.ctl("reload")
    assert (said.status, said.out) == (REFUSED, "")
    assert f"address {VIP} goes from group web to group other" in said.err
    pair.lvs1.write(pair.lvs1.config)
    assert pair.lvs1.ctl("reload").out == "the configuration is the same; the keys were read again\n"
    assert pair.lvs1.group()["state"] == "owner"


@pytest.mark.netns
def test_while_files_differ_no_address_is_added(pair: Pair) -> None:
    def with_group(config: str, *numbers: int) -> str:
        rows = ", ".join(f'{{ address = "192.168.1.{number}/32", interface = "eth0" }}' for number in numbers)
        return f'{config}\n[[group]]\nname = "g"\naddresses = [{rows}]\n'

    first, second = pair.lvs1.config, pair.lvs2.config
    words = "g: {} has other addresses in this group by its file: make the files the same, and reload both"

    def warned(agent: Agent, other: str) -> bool:
        return words.format(other) in agent.status()["warnings"]

    pair.lvs1.write(with_group(first, 131))
    pair.lvs2.write(with_group(second, 132))
    assert pair.lvs1.ctl("reload").status == pair.lvs2.ctl("reload").status == DONE
    until(lambda: warned(pair.lvs1, "lvs2") and warned(pair.lvs2, "lvs1"), "both warn")
    pair.lvs1.write(with_group(first, 131, 133))
    said = pair.lvs1.ctl("reload")
    assert said.status == REFUSED
    assert f"{words.format('lvs2')}; before that no address is added, and nothing was changed" in said.err
    for numbers in ((131,), (131, 133), (131, 133, 134)):  # made the same, then changed on one after the other
        for agent, config in ((pair.lvs2, second), (pair.lvs1, first)):
            agent.write(with_group(config, *numbers))
            assert agent.ctl("reload").status == DONE, numbers
            until(lambda: warned(pair.lvs1, "lvs2") == warned(pair.lvs2, "lvs1"), "both know")
        until(lambda: not warned(pair.lvs1, "lvs2") and not warned(pair.lvs2, "lvs1"), "they are the same")
    pair.lvs2.write(second)
    assert pair.lvs2.ctl("reload").status == DONE
    pair.lvs1.write(first)
    assert pair.lvs1.ctl("reload").status == DONE
    until(lambda: not [text for text in pair.lvs1.status()["warnings"] if "other addresses" in text], "all is well")


@pytest.mark.netns
def test_what_was_given_away_stays_so_through_a_restart(pair: Pair) -> None:
    assert pair.lvs1.ctl("giveaway", "--json").status == DONE
    assert pair.lvs2.has(VIP)
    assert pair.lvs1.group()["state"] == "released"
    assert pair.lvs1.stop() == 0
    pair.lvs1.start()
    until(lambda: pair.lvs1.status()["quorum"]["held"], "lvs1 hears the others")
    assert pair.lvs1.group()["state"] == "released"
    assert pair.lvs2.group()["state"] == "owner"
    assert pair.lvs1.ctl("resume", "--json").status == DONE
    names = [event["name"] for event in pair.lvs1.events()]
    assert {"giveaway", "resume"} <= set(names)


@pytest.mark.netns
def test_what_happens_is_told_by_the_promised_names(pair: Pair) -> None:
    worker = next(worker for worker in pair.lvs1.status()["workers"] if worker["name"] == "prober")
    os.kill(worker["pid"], signal.SIGKILL)
    pair.lvs2.kill()
    pair.witness.kill()
    wanted = {"worker_lost", "worker_restarted", "director_dead", "link_down", "quorum_lost"}
    until(lambda: wanted <= {event["name"] for event in pair.lvs1.events()}, "lvs1 tells of it")
    assert pair.lvs1.status()["quorum"]["held"] is False
    assert pair.lvs1.status()["directors"][0]["state"] == "dead"
    assert not pair.lvs1.has(VIP)
    said = pair.lvs1.ctl("takeover", "--force", "--group", "web", "--json")
    assert said.status == DONE, said
    assert pair.lvs1.has(VIP)
    before = next(one for one in pair.lvs1.status()["workers"] if one["name"] == "prober")
    assert (before["state"], before["restarts"]) == ("running", 1)
    pair.witness.start()
    pair.lvs2.start()
    pair.settle()
    names = {event["name"] for event in pair.lvs1.events()}
    assert "quorum_regained" in names
    stop = next(worker["pid"] for worker in pair.lvs1.status()["workers"] if worker["name"] == "core")
    os.kill(stop, signal.SIGSTOP)
    time.sleep(0.6)
    os.kill(stop, signal.SIGCONT)
    until(lambda: "lease_late" in {event["name"] for event in pair.lvs1.events()}, "its own lateness is told")
    client = pair.site.clients[0]
    client.ip(f"address add {VIP}/32 dev eth0")
    until(lambda: "vip_conflict" in {event["name"] for event in pair.lvs1.events()}, "another one answers")
    conflict = next(event for event in pair.lvs1.events() if event["name"] == "vip_conflict")
    assert client.links[0].mac in conflict["reason"]
    client.ip(f"address del {VIP}/32 dev eth0")
    until(lambda: "alert_failed" in {event["name"] for event in pair.lvs1.events()}, "nobody takes the alerts")
    events = [*pair.lvs1.events(), *pair.lvs2.events()]
    assert [line for event in events for line in wrong_event(event)] == []


# --- services: on a kernel with IPVS -------------------------------------------------------------------------


@pytest.mark.kernel
def test_the_promised_example_runs_as_it_stands() -> None:
    with site(directors=("lvs1", "lvs2")) as made:
        web = start_web(made.node("rs1"))
        pair = Pair(made, services=True, profile="default")
        one = pair.lvs1
        for agent in (pair.lvs1, pair.lvs2):
            up = until(lambda agent=agent: agent.server("192.168.1.1")["state"] == "up" and agent.status(), "it is up")
            assert differences(up, STATUS) == []
            assert wrong_states(up) == []
        server = one.server("192.168.1.1")
        assert (server["port"], server["weight"], server["reason"]) == (80, 1, "")
        assert server["latency_ms"] > 0
        assert f"TCP  {VIP}:80 wlc persistent 300" in " ".join(one.node.run("ipvsadm", "-Ln").split(" " * 1))

        for verb, state, undo in (("drain", "draining", "undrain"), ("disable", "disabled", "enable")):
            said = one.ctl(verb, "http", "192.168.1.1", "--json")
            assert said.status == DONE, said
            assert said.json["changes"]
            assert one.server("192.168.1.1")["state"] == state
            if verb == "drain":
                assert one.ctl("drain", "all", "192.168.1.1:80", "--wait", "--json").status == DONE
                assert one.server("192.168.1.1")["weight"] == 0
            one.stop()
            one.start()
            assert one.server("192.168.1.1")["state"] == state, "it survives a restart"
            assert one.ctl(undo, "http", "all", "--json").status == DONE
            until(lambda: one.server("192.168.1.1")["state"] == "up", "it is back")
        for words in ("drain nope all", "drain http 192.168.1.9", "disable all 192.168.1.1:81"):
            said = one.ctl(*words.split())
            assert (said.status, said.out) == (REFUSED, ""), words
            assert "known" in said.err

        web.kill()
        down = until(lambda: one.server("192.168.1.1")["state"] == "down" and one.server("192.168.1.1"), "it is down")
        assert "refused" in down["reason"]
        start_web(made.node("rs1"))
        until(lambda: one.server("192.168.1.1")["state"] == "up", "it is up again")
        names = {event["name"] for event in one.events()}
        assert names >= {"server_up", "server_down", "service_down", "service_up"}
        assert [line for event in one.events() for line in wrong_event(event)] == []


def start_web(node: Node) -> subprocess.Popen[bytes]:
    return node.start([sys.executable, "-c", WEB_SERVER, "192.168.1.1", "80"])


def test_the_names_of_the_promise_are_known_to_the_documentation() -> None:
    """What outsiders are promised stands in the manual, too."""
    docs = Path(__file__).resolve().parents[2] / "docs" / "reference"
    events, commands = (docs / "events.md").read_text(), (docs / "commands.md").read_text()
    assert {name for name in EVENTS if f"`{name}`" not in events} == set()
    assert {name for name in COMMANDS if f"`{name}" not in commands} == set()
    assert {state for states in STATES.values() for state in states if f"`{state}`" not in commands} == set()
    assert set(ABOUT) <= EVENTS
