"""The console as a process of a whole agent: a real Postfix, kills, a stop, and what ctl shows."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from hawatch.console.catalogue import CATALOGUE
from hawatch.control.client import Client
from hawatch.control.protocol import Disable, Enable
from tests.unit.agent.test_core import Agent, Server, ended
from tests.unit.console.mailer import Mailer, mailer
from tests.unit.daemons import free_ports

pytestmark = pytest.mark.slow
PAUSE = threading.Event()


class Site:
    """An agent with its mail."""

    def __init__(self, directory: Path, postfix: Mailer, *keys: str, tls: str = "starttls") -> None:
        self.postfix = postfix
        self.servers = [Server("127.0.0.2"), Server("127.0.0.3")]
        self.alert = (
            f'[alert.email.ops]\nto = ["ops@mail.example"]\nfrom = "hawatch@mail.example"\ntimeout = "2s"\n'
            f'server = "127.0.0.1:{postfix.plain}"\nca_file = "{postfix.ca_file}"\ntls = "{tls}"\n' + "\n".join(keys)
        )
        agent = Agent.__new__(Agent)
        agent.directory, agent.config, agent.servers = directory, directory / "hawatch.toml", self.servers
        from tests.unit.agent.fake_kernel import FileKernel

        agent.kernel = FileKernel(directory)
        agent.write_config(self.alert)
        agent.start()
        self.agent = agent
        agent.wait_up()
        agent.wait(lambda: self.worker()["state"] == "running" and (directory / "run/console.sock").exists())

    def worker(self) -> dict:
        try:
            return self.agent.worker("console")
        except (OSError, StopIteration):
            return {"state": "", "pid": 0, "restarts": -1}

    def letters(self, what: str = "key") -> list[tuple]:
        with sqlite3.connect(self.agent.directory / "state/console.db", timeout=10) as database:
            rows = database.execute(f"SELECT {what} FROM letter ORDER BY seq").fetchall()
        database.close()
        return rows

    def stop(self) -> None:
        self.agent.process.kill()
        self.agent.process.wait()
        for server in self.servers:
            server.stop()


@pytest.fixture(scope="module")
def running():
    with mailer() as made:
        yield made


@pytest.fixture
def postfix(running):
    for file in (running.directory / "boxes").glob("*/new/*"):
        file.unlink()
    running.be_well()
    return running


@pytest.fixture
def make_site(tmp_path, postfix):
    made = []

    def make(*keys, **rest):
        made.append(Site(tmp_path, postfix, *keys, **rest))
        return made[-1]

    yield make
    for site in made:
        site.stop()


def subjects(mails):
    return [mail["Subject"] for mail in mails]


def test_mail_of_a_failure_and_its_end(make_site, postfix):
    site = make_site()
    site.servers[0].stop()
    down = postfix.wait_mails(1)[0]
    assert down["Subject"] == f"[default] web {site.servers[0].name} DOWN: connection refused"
    site.servers[0].start()
    up = postfix.wait_mails(2)[1]
    assert re.fullmatch(rf"\[default\] web {site.servers[0].name} up after \d+ s", up["Subject"])
    assert up["In-Reply-To"] == down["Message-ID"]
    report = json.loads(site.agent.ctl("report", "--since", "1h", "--json"))
    line = next(line for line in report["lines"] if line["server"] == site.servers[0].name)
    assert (line["outages"], line["down_now"]) == (1, False)
    assert "server web 127.0.0.2" in site.agent.ctl("report")


def test_questions_to_the_journal(make_site):
    site = make_site()
    site.servers[0].stop()
    site.agent.wait(lambda: "server_down" in site.agent.event_names())
    words = ("events", "--since", "1h", "--name", "server_down", "--service", "web", "--json")
    site.agent.wait(lambda: len(site.agent.ctl(*words).splitlines()) == 1)
    assert json.loads(site.agent.ctl(*words))["server"] == site.servers[0].name
    assert site.agent.ctl("events", "--server", "10.9.9.9") == ""
    assert "server_down" in site.agent.ctl("events", "--severity", "warning")
    os.kill(site.worker()["pid"], signal.SIGKILL)
    assert "server_down" in site.agent.ctl("events", "--server", "127.0.0.2")


def test_metrics_of_a_running_agent(make_site):
    (port,) = free_ports(1)
    site = make_site(f'[console]\nlisten = "127.0.0.1:{port}"\nmetrics_detail = "check"')

    def fetch():
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.HTTPError:
            return ""

    server = site.servers[0].name
    site.agent.wait(lambda: f'hawatch_server_up{{server="{server}",service="web"}} 1.0' in fetch())
    text = fetch()
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
    names = set(re.findall("^# TYPE (\\S+) ", text, re.M))
    assert names <= {spec.name for spec in CATALOGUE.values()}
    for line in (
        'hawatch_worker_running{worker="core"} 1.0',
        "hawatch_quorum_held 1.0",
        "hawatch_core_lag_seconds_count ",
        "hawatch_journal_last_commit_timestamp_seconds ",
        'hawatch_process_cpu_seconds_total{worker="prober"} ',
    ):
        assert line in text, line
    runs = re.compile(rf'^hawatch_probe_runs_total\{{.*target="{re.escape(server)}"\}} (.*)$', re.M)
    latency = re.compile(rf'^hawatch_check_latency_seconds_count\{{.*target="{re.escape(server)}"\}} (.*)$', re.M)
    counted = f'hawatch_ipvs_server_connections_total{{server="{server}",service="web"}} '
    site.agent.wait(lambda: counted in fetch())
    before = float(runs.search(text)[1])
    assert before >= float(latency.search(text)[1]) >= 1
    site.agent.wait(lambda: float(runs.search(fetch())[1]) > before)
    os.kill(site.agent.worker("prober")["pid"], signal.SIGSTOP)
    assert "hawatch_core_up 1.0" in fetch(), "a prober that hangs holds nobody up for long"
    assert httpx.get(f"http://127.0.0.1:{port}/readyz").text == "ok\n"


def test_acknowledged(make_site, postfix):
    site = make_site('every = "1m"')
    assert "nothing fails" in site.agent.ctl("ack", "web", status=1)
    site.servers[0].stop()
    postfix.wait_mails(1)
    assert "acknowledged" in site.agent.ctl("ack", "web", "127.0.0.2", "-m", "on it")
    site.agent.wait(lambda: "acknowledged" in site.agent.event_names())
    site.agent.stop()
    site.agent.start()
    site.agent.wait(lambda: (site.agent.directory / "run/console.sock").exists() and site.worker()["pid"] > 0)
    with sqlite3.connect(site.agent.directory / "state/console.db") as database:
        body = database.execute("SELECT body FROM history WHERE CAST(key AS TEXT) LIKE '[\"trouble%'").fetchone()[0]
    database.close()
    assert json.loads(body)["acknowledged"] == "on it"


def test_a_test_message(make_site, postfix):
    site = make_site()
    assert "email/ops to ops@mail.example: sent" in site.agent.ctl("alert-test", "ops")
    assert "test of email/ops" in postfix.wait_mails(1)[0]["Subject"]
    assert "there are: email/ops" in site.agent.ctl("alert-test", "nobody", status=1)
    postfix.answer_451()
    assert "451" in site.agent.ctl("alert-test", status=1)


def test_a_reload_changes_who_is_told(make_site, postfix):
    site = make_site()
    text = site.agent.config.read_text()
    pid = site.worker()["pid"]
    site.agent.config.write_text(text.replace("ops@mail.example", "night@mail.example"))
    site.agent.ctl("reload")
    site.servers[0].stop()
    postfix.wait_mails(1, "night")
    assert postfix.mails() == []
    assert site.worker()["pid"] == pid


def test_a_mail_server_that_is_down_slow_and_well_again(make_site, postfix):
    """Answering 451, then stopped, then well: everything arrives in order, and once unless it is marked."""
    site = make_site("burst = 100")
    postfix.answer_451()
    for _ in range(2):
        site.servers[0].stop()
        site.agent.wait(lambda: site.agent.states().get(site.servers[0].name) == "down")
        site.servers[0].start()
        site.agent.wait(lambda: site.agent.states().get(site.servers[0].name) == "up")
    site.agent.wait(lambda: len(site.letters()) == 4)
    site.agent.wait(lambda: any("alert email/ops fails" in each for each in site.agent.status()["warnings"]))
    postfix.signal_smtpd(signal.SIGSTOP)
    PAUSE.wait(1)
    postfix.signal_smtpd(signal.SIGCONT)
    postfix.be_well()
    found = postfix.wait_mails(4)
    order = [" DOWN: " in subject for subject in subjects(found)]
    assert order == [True, False, True, False]
    assert len({mail["Message-ID"] for mail in found}) == 4
    assert not [mail for mail in found if mail["X-Hawatch-Possibly-Twice"]]


def make_noise(site: Site, stop: threading.Event) -> threading.Thread:
    """Have the core tell of many events: a server is disabled and enabled as fast as ctl answers."""

    def work() -> None:
        with Client(site.agent.directory / "run/ctl.sock") as client:
            while not stop.is_set():
                for kind in (Disable, Enable):
                    list(client.ask(kind(service="web", server=site.servers[1].name)))
                    PAUSE.wait(0.008)  # about 200 events a second

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def journal_ids(site: Site) -> list[int]:
    with sqlite3.connect(site.agent.directory / "state/console.db", timeout=10) as database:
        rows = database.execute("SELECT id FROM event ORDER BY seq").fetchall()
    database.close()
    return [row[0] for row in rows]


@pytest.mark.timeout(300)
def test_killed_again_and_again_under_load(make_site, postfix):
    """The journal is whole, and every alert arrives once or is marked as perhaps twice."""
    kills = int(os.environ.get("HAWATCH_TEST_KILLS", "6"))
    site = make_site('events = ["server_disabled"]', "burst = 1000", 'digest = "1s"', tls="none")
    stop, chance = threading.Event(), random.Random(11)
    noise = make_noise(site, stop)
    try:
        for _ in range(kills):
            site.agent.wait(lambda: site.worker()["state"] == "running" and site.worker()["pid"] > 0)
            PAUSE.wait(chance.random() * 0.6)
            with_pid = site.worker()["pid"]
            if with_pid:
                os.kill(with_pid, signal.SIGKILL)
            site.agent.wait(lambda pid=with_pid: site.worker()["pid"] not in (0, pid))
    finally:
        stop.set()
        noise.join()
    told = [record.id for record in site.agent.events()]
    site.agent.wait(lambda: set(told) <= set(journal_ids(site)))
    ids = journal_ids(site)
    assert len(ids) == len(set(ids))
    site.agent.wait(lambda: not [one for one in site.letters("state") if one[0] != "sent"])
    letters = site.letters("key")
    found = postfix.wait_mails(len(letters))
    keys = [mail["X-Hawatch-Key"] for mail in found]
    marked = {mail["X-Hawatch-Key"] for mail in found if mail["X-Hawatch-Possibly-Twice"]}
    assert len(set(keys)) == len(letters)
    assert all(keys.count(key) == 1 or key in marked for key in set(keys))
    assert site.agent.worker("core")["restarts"] == 0


def test_stopped_it_costs_nothing_and_catches_up(make_site, postfix):
    site = make_site()
    pid = site.worker()["pid"]
    os.kill(pid, signal.SIGSTOP)
    stop = threading.Event()
    noise = make_noise(site, stop)
    try:
        for _ in range(3):
            began = time.monotonic()
            site.servers[0].stop()
            site.agent.wait(lambda: site.agent.states().get(site.servers[0].name) == "down")
            site.servers[0].start()
            site.agent.wait(lambda: site.agent.states().get(site.servers[0].name) == "up")
            print(f"down and up in {time.monotonic() - began:.2f} s")
    finally:
        stop.set()
        noise.join()
    told = [record.id for record in site.agent.events()]
    assert len(told) > 50
    os.kill(pid, signal.SIGCONT)
    site.agent.wait(lambda: set(told) <= set(journal_ids(site)))
    assert site.worker()["pid"] == pid
    assert " DOWN: " in postfix.wait_mails(1)[0]["Subject"]


def test_a_journal_that_breaks_is_told_and_put_aside(make_site):
    site = make_site()
    site.agent.stop()
    (site.agent.directory / "state/console.db").write_bytes(b"no database" * 5000)
    for ending in ("-wal", "-shm"):
        (site.agent.directory / f"state/console.db{ending}").unlink(missing_ok=True)
    site.agent.start()
    site.agent.wait(lambda: "journal_broken" in site.agent.event_names())
    assert (site.agent.directory / "state/console.db.broken").exists()


def test_it_dies_with_its_keeper(make_site):
    site = make_site()
    pid = site.worker()["pid"]
    site.agent.process.kill()
    site.agent.process.wait()
    ended(pid)
