"""The console as a process of a whole agent: a real Postfix, kills, a stop, and what ctl shows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess

import httpx
import pytest

from hawatch.console.catalogue import CATALOGUE
from hawatch.console.main import Console
from tests.unit.agent.test_core import ended
from tests.unit.console.page import sample
from tests.unit.daemons import free_ports

pytestmark = pytest.mark.slow


def test_mail_of_a_failure_and_its_end(make_site, postfix):
    site = make_site()
    site.servers[0].stop()
    down = postfix.wait_mails(1)[0]
    assert down["Subject"] == f"[default] web {site.servers[0].name} DOWN: connection refused"
    body = down.get_content()
    for words in ("Reason:   connection refused", "1 of 2 servers up", f"{site.servers[1].name}  up", "ctl ack web"):
        assert words in body, body
    site.servers[0].start()
    up = postfix.wait_mails(2)[1]
    assert "2 of 2 servers up" in up.get_content()
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
    os.kill(site.agent.pid("console"), signal.SIGKILL)
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
    os.kill(site.agent.pid("prober"), signal.SIGSTOP)
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


def test_a_journal_that_breaks_is_told_and_put_aside(make_site):
    site = make_site()
    site.agent.stop()
    (site.agent.directory / "state/console.db").write_bytes(b"no database" * 5000)
    for ending in ("-wal", "-shm"):
        (site.agent.directory / f"state/console.db{ending}").unlink(missing_ok=True)
    site.agent.start()
    site.agent.wait(lambda: "journal_broken" in site.agent.event_names())
    assert (site.agent.directory / "state/console.db.broken").exists()


async def test_a_reload_changes_how_long_events_are_kept(tmp_path):
    short, long = (sample.Console(tmp_path, f'keep = "{days}d"') for days in (1, 400))
    with contextlib.closing(short.store), contextlib.closing(long.store):
        console = Console(short.settings, short.store)
        for made in (short, long):
            console.adopt(made.settings)
            assert short.store.keep_ns == made.settings.config.console.keep
    assert short.settings.config.console.keep < long.settings.config.console.keep


def test_it_dies_with_its_keeper(make_site):
    site = make_site()
    pid = site.worker()["pid"]
    site.agent.process.kill()
    site.agent.process.wait()
    ended(pid)
