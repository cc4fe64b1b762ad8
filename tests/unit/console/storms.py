"""What befalls a console and its mail server, and what must be true afterwards. Tests run it short, the benchmark long."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.unit.console.console_site import Site, Taking, journal_ids, noise, told_ids, wait_journal
from tests.unit.console.mailer import Mailer

PAUSE = threading.Event()


def flap(site: Site) -> float:
    """Have a server go down and come back; return the seconds until each was seen, added up.

    The servers take turns: one that goes down too often is held.
    """
    site.flaps += 1
    server = site.servers[site.flaps % len(site.servers)]
    began = time.monotonic()
    server.stop()
    site.agent.wait(lambda: site.agent.states().get(server.name) == "down")
    server.start()
    site.agent.wait(lambda: site.agent.states().get(server.name) == "up")
    return time.monotonic() - began


# --- kills ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Killed:
    """What came of kills."""

    kills: int
    events: int
    seconds: float
    letters: int
    mails: int
    marked: int


def kill(site: Site, postfix: Mailer, kills: int, seed: int = 11) -> Killed:
    """Kill the console again and again under load: the journal is whole, each alert came once or is marked."""
    chance, began = random.Random(seed), time.monotonic()
    with noise(site):
        for _ in range(kills):
            site.agent.wait(lambda: site.worker()["state"] == "running" and site.worker()["pid"] > 0)
            PAUSE.wait(chance.random() * 0.6)
            pid = site.worker()["pid"]
            if pid:
                os.kill(pid, signal.SIGKILL)
            site.agent.wait(lambda pid=pid: site.worker()["pid"] not in (0, pid))  # type: ignore[misc]
    seconds = time.monotonic() - began
    wait_journal(site)
    ids = journal_ids(site)
    assert len(ids) == len(set(ids)), "an event twice in the journal"
    assert ids == sorted(ids), "the journal is out of order"
    site.agent.wait(lambda: not [one for one in site.letters("state") if one[0] != "sent"])
    letters = [key for (key,) in site.letters("key")]
    found = postfix.wait_mails(len(letters))
    keys = Counter(mail["X-Hawatch-Key"] for mail in found)
    marked = {mail["X-Hawatch-Key"] for mail in found if mail["X-Hawatch-Possibly-Twice"]}
    assert len(keys) == len(letters), "an alert is missing"
    assert all(count == 1 or key in marked for key, count in keys.items()), "an alert came twice without a mark"
    assert site.agent.worker("core")["restarts"] == 0
    return Killed(kills, len(ids), seconds, len(letters), len(found), len(marked))


# --- a stop --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """How an agent did for a while under load."""

    events: int
    flaps_s: list[float]
    """Seconds for each server down and up, sorted."""
    late_ms: float
    """By how much a check was started late at most."""
    lag_ms: float
    """By how much the core's loop was late at most."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What came of a stop."""

    seconds: float
    before: Span
    during: Span
    catch_up_s: float


def span(site: Site, seconds: float) -> Span:
    """Have servers go down and up for a while; the last minute's latenesses."""
    first, began, flaps = len(told_ids(site)), time.monotonic(), [flap(site)]
    while time.monotonic() - began < seconds:
        PAUSE.wait(seconds / 15)
        flaps.append(flap(site))
    status = site.agent.status()
    prober = next(worker for worker in status["workers"] if worker["name"] == "prober")
    events = len(told_ids(site)) - first
    return Span(events, sorted(flaps), prober["late_ms_max"], status["loop_lag_ms"]["max"])


def stop(site: Site, seconds: float) -> Stopped:
    """Stop the console under load: verdicts come as before, nothing is late, and it catches up."""
    with noise(site):
        before = span(site, seconds)
        pid = site.agent.pid("console")
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        during = span(site, seconds)
    stopped_s = time.monotonic() - began
    os.kill(pid, signal.SIGCONT)
    began = time.monotonic()
    wait_journal(site)
    caught_up_s = time.monotonic() - began
    assert site.worker()["pid"] == pid, "it was killed for being stopped"
    names = site.agent.event_names()
    assert not {"lease_late", "worker_lost"} & set(names), names
    return Stopped(stopped_s, before, during, caught_up_s)


# --- a mail server's bad day ----------------------------------------------------------------------------------------


def mail_troubles(site: Site, postfix: Mailer, seconds: float, limit_s: float) -> dict[str, float]:
    """Have the server down, answering 451 and hanging after DATA, then well: each message arrives once, in order."""
    wanted = 0
    for trouble in (postfix.go_down, postfix.answer_451, postfix.hang_after_data):
        if postfix.down:
            postfix.be_well()
        trouble()
        began = time.monotonic()
        for _ in range(2):
            flap(site)
            wanted += 2
        PAUSE.wait(max(0.0, seconds - (time.monotonic() - began)))
        assert postfix.mails() == [], "it was to refuse everything"
    site.agent.wait(lambda: len(site.letters()) == wanted)
    attempts = max(row[0] for row in site.letters("attempts"))
    postfix.be_well()
    began = time.monotonic()
    found = postfix.wait_mails(wanted, limit_s=limit_s)
    took_s = time.monotonic() - began
    PAUSE.wait(1.0)
    found = postfix.mails()
    assert len(found) == wanted, f"{len(found)} mails of {wanted}"
    assert [" DOWN: " in mail["Subject"] for mail in found] == [True, False] * (wanted // 2), "out of order"
    assert len({mail["Message-ID"] for mail in found}) == wanted
    for down, up in zip(found[::2], found[1::2], strict=True):
        assert up["In-Reply-To"] == down["Message-ID"]
    marked = sum(1 for mail in found if mail["X-Hawatch-Possibly-Twice"])
    return {"mails": wanted, "marked": marked, "attempts": attempts, "well_to_last_s": took_s}


# --- a switch dies --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of a thousand failures at once."""

    events: int
    spread_s: float
    """From the first event to the last."""
    mails: int
    subjects: list[str]
    peak_mb: float
    """Memory of the console at most."""


SERVICES, SERVERS = 50, 20


def switch_site(site: Site, switch: Taking, digest: str) -> None:
    """Put a thousand servers behind one switch, in the place of what the site had."""
    text = f'[[director]]\nname = "lvs1"\n{site.alert}digest = "{digest}"\n'
    for number in range(SERVICES):
        text += (
            f'[[service]]\nname = "s{number}"\naddress = "192.0.2.{number + 1}"\nport = 80\nforward = "masquerade"\n'
            'probe = { type = "tcp", interval = "1s", timeout = "900ms", rise = 1, fall = 2 }\n'
        )
        text += "".join(
            f'[[service.server]]\naddress = "127.1.{number}.{server + 1}"\nport = {switch.port}\n'
            for server in range(SERVERS)
        )
    site.agent.config.write_text(text)
    site.agent.ctl("reload")
    site.agent.wait(lambda: sum(row["state"] == "up" for row in _rows(site)) == SERVICES * SERVERS)


def _rows(site: Site) -> list[dict]:
    return [row for service in site.agent.status()["services"] for row in service["servers"]]


def switch_dies(site: Site, postfix: Mailer, digest: str, quiet_s: float) -> Storm:
    """Have a switch with a thousand servers die: the administrator gets at most three messages of it."""
    switch = Taking("0.0.0.0")
    try:
        switch_site(site, switch, digest)
        postfix.empty()
        last = told_ids(site)[-1]
        switch.stop()
        site.agent.wait(lambda: all(row["state"] == "down" for row in _rows(site)))
        wait_journal(site)
        names = ("server_down", "service_down")
        down = [record for record in site.agent.events() if record.name in names and record.id > last]
        PAUSE.wait(quiet_s)
        found = postfix.mails()
    finally:
        switch.stop()
    told = sum(int(count) for mail in found for count in re.findall(r"(\d+) things happened", mail.get_content()))
    singles = sum("things happened" not in mail.get_content() for mail in found)
    assert told + singles >= len(down) >= SERVICES * (SERVERS + 1), (told, singles, len(down))
    assert len(found) <= 3, [mail["Subject"] for mail in found]
    status = Path(f"/proc/{site.worker()['pid']}/status").read_text()
    peak_kb = int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
    spread_s = (down[-1].id - down[0].id) / 1e9
    return Storm(len(down), spread_s, len(found), [str(mail["Subject"]) for mail in found], peak_kb / 1024)
