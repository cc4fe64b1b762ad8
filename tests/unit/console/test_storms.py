"""The console under kills, a stop, a mail server's bad day and a dead switch: short here, long in tests/bench/console."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.unit.agent.test_core import CTL, ROOT
from tests.unit.console import storms
from tests.unit.console.console_site import journal_ids, noise
from tests.unit.console.test_store import fill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_killed_again_and_again_under_load(make_site, postfix):
    """The journal is whole, and every alert arrives once or is marked as perhaps twice."""
    site = make_site('events = ["server_disabled"]', "burst = 20", 'digest = "1s"', tls="none")
    outcome = storms.kill(site, postfix, kills=5)
    assert outcome.events > outcome.letters > 5
    print(outcome)


def test_stopped_it_costs_nothing_and_catches_up(make_site, postfix):
    site = make_site(servers=12)
    outcome = storms.stop(site, seconds=3)
    assert outcome.during.events > 100
    assert " DOWN" in postfix.wait_mails(1)[0]["Subject"], "what was told meanwhile is sent"
    print(outcome)


def test_a_mail_server_that_is_down_refusing_hanging_and_well_again(make_site, postfix, monkeypatch):
    monkeypatch.setitem(os.environ, "HAWATCH_TEST_BACKOFF_S", "0.5")
    site = make_site("burst = 100", servers=6)
    outcome = storms.mail_troubles(site, postfix, seconds=3, limit_s=60)
    assert outcome["mails"] == 12
    assert outcome["marked"] >= 1, "the one that hung after DATA"
    print(outcome)


def test_a_dead_switch_is_three_messages(make_site, postfix):
    outcome = storms.switch_dies(make_site(), postfix, digest="12s", quiet_s=16)
    assert outcome.events >= storms.SERVICES * storms.SERVERS
    assert " DOWN; " in outcome.subjects[-1]
    print(outcome)


def family(pid):
    """Return a process and all that it started."""
    found = [pid]
    for each in found:
        children = Path(f"/proc/{each}/task/{each}/children")
        found += [int(child) for child in children.read_text().split()] if children.exists() else []
    return found


def test_what_ctl_has_shown_is_in_the_journal_whoever_is_killed(make_site):
    """Everything of an agent is killed at once, while somebody follows its events."""
    site, chance = make_site(), random.Random(5)
    for _ in range(4):
        argv = [*CTL, site.agent.directory / "run", "events", "--follow", "-n", "0", "--json"]
        with (
            noise(site),
            subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as follower,
        ):
            storms.PAUSE.wait(1.0 + chance.random() / 5)
            for pid in family(site.agent.process.pid):
                os.kill(pid, signal.SIGKILL)
            site.agent.process.wait()
            shown = [json.loads(line)["id"] for line in follower.stdout.read().splitlines() if line.endswith(b"}")]
        assert len(shown) > 10
        site.agent.start()
        site.agent.wait(lambda: site.worker()["state"] == "running")
        site.agent.wait(lambda shown=shown: set(shown) <= set(journal_ids(site)))


def test_filters_go_for_what_comes_too(make_site):
    site = make_site()
    argv = [*CTL, site.agent.directory / "run", "events", "--follow", "-n", "0", "--json", "--name", "server_enabled"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as follower:
        site.agent.wait(lambda: "server_disabled" in site.agent.ctl("disable", "web", "127.0.0.2") or True)
        site.agent.ctl("enable", "web", "127.0.0.2")
        line = json.loads(follower.stdout.readline())
        follower.terminate()
    assert (line["name"], line["server"]) == ("server_enabled", site.servers[0].name)


@pytest.fixture
def small_disk(tmp_path):
    """The agent's state on a file system with little room."""
    place = tmp_path / "state"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.netns
def test_a_full_disk_is_told_and_stops_nothing(small_disk, make_site, postfix):
    """Verdicts and mail go on; status warns; with room again the journal has what happened meanwhile."""
    site = make_site("burst = 100")
    filler = small_disk / "filler"
    fill(filler)
    with contextlib.suppress(AssertionError):  # what is said of a server is refused: it would not survive
        site.agent.ctl("disable", "web", "127.0.0.3")
    storms.flap(site)
    assert [" DOWN: " in mail["Subject"] for mail in postfix.wait_mails(2)[:2]] == [True, False]
    site.agent.wait(lambda: any("kept in memory only" in each for each in site.agent.status()["warnings"]))
    filler.unlink()
    site.agent.wait(lambda: not any("kept in memory only" in each for each in site.agent.status()["warnings"]))
    site.agent.wait(lambda: "journal_mended" in site.agent.ctl("events", "-n", "500"))
    names = [json.loads(line)["name"] for line in site.agent.ctl("events", "--since", "1h", "--json").splitlines()]
    assert {"server_down", "server_up", "journal_broken", "journal_mended"} <= set(names)
    assert site.worker()["restarts"] == 0


def test_a_failure_that_ended_unseen_is_told(make_site, postfix):
    """A server that is taken out of the configuration while it is down."""
    site = make_site()
    site.servers[0].stop()
    assert " DOWN: " in postfix.wait_mails(1)[0]["Subject"]
    text = site.agent.config.read_text()
    head, first, second = text.split("[[service.server]]")
    site.agent.config.write_text("[[service.server]]".join([head, second]))
    site.agent.ctl("reload")
    removed = postfix.wait_mails(2, limit_s=60)[1]
    assert f"web {site.servers[0].name} removed after" in removed["Subject"]
    assert first
    (line,) = [
        line
        for line in json.loads(site.agent.ctl("report", "--since", "1h", "--json"))["lines"]
        if line["server"] == site.servers[0].name
    ]
    assert not line["down_now"]
